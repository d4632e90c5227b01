//! Which other process holds the write lock of a database, as Linux tells it in `/proc/locks`.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The byte of the shared memory that SQLite locks to write, in a database with a write-ahead log
/// (SQLite's file format, section 4.6).
const WRITE_LOCK_BYTE: u64 = 120;

thread_local! {
    /// The database that this thread writes to.
    static DATABASE: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Names the database that this thread writes to, for [`warn_of_waiting`].
pub(super) fn watch(database: &Path) {
    DATABASE.with(|watched| *watched.borrow_mut() = Some(database.to_owned()));
}

/// Logs that this thread waits for the write lock, and for whom.
pub(super) fn warn_of_waiting() {
    DATABASE.with(|watched| {
        if let Some(database) = &*watched.borrow() {
            log::warn!(
                "changes wait for the write lock of {}, which {} holds",
                database.display(),
                holder(database)
            );
        }
    });
}

/// The other process that holds the write lock.
pub(super) fn holder(database: &Path) -> String {
    let process = fs::read_to_string("/proc/locks")
        .ok()
        .and_then(|locks| holding_process(&locks, database));
    let Some(process) = process else {
        return "another program".to_owned();
    };
    match fs::read_to_string(format!("/proc/{process}/comm")) {
        Ok(name) => format!("the process {process} ({})", name.trim()),
        Err(_) => format!("the process {process}"),
    }
}

fn holding_process(locks: &str, database: &Path) -> Option<u32> {
    let inode = |path: &Path| path.metadata().map(|file| file.ino()).ok();
    let mut shared = database.as_os_str().to_owned();
    shared.push("-shm");
    let (shared, database) = (inode(Path::new(&shared)), inode(database));
    let own = std::process::id();
    locks.lines().find_map(|line| {
        let lock = Lock::parse(line).filter(|lock| lock.process != own)?;
        let is_write_lock = Some(lock.inode) == shared && lock.covers(WRITE_LOCK_BYTE);
        // A program that opened the file without its log locks the file itself.
        (is_write_lock || Some(lock.inode) == database).then_some(lock.process)
    })
}

/// An exclusive lock that a process holds.
struct Lock {
    process: u32,
    inode: u64,
    first: u64,
    last: u64,
}

impl Lock {
    /// Parses a line such as `1: POSIX  ADVISORY  WRITE 4242 08:01:131 120 120`. `None` for a shared
    /// lock, and for a process that waits.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().skip(1);
        let (kind, _, access) = (words.next()?, words.next()?, words.next()?);
        if kind != "POSIX" || access != "WRITE" {
            return None;
        }
        let process = words.next()?.parse().ok().filter(|process| *process > 0)?;
        let inode = words.next()?.rsplit(':').next()?.parse().ok()?;
        let first = words.next()?.parse().ok()?;
        let last = words.next()?.parse().unwrap_or(u64::MAX);
        Some(Self {
            process,
            inode,
            first,
            last,
        })
    }

    fn covers(&self, byte: u64) -> bool {
        (self.first..=self.last).contains(&byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exclusive_lock_is_read_and_other_lines_are_not() {
        let lock = Lock::parse("17: POSIX  ADVISORY  WRITE 4242 08:01:131 120 120").unwrap();
        assert_eq!((lock.process, lock.inode), (4242, 131));
        assert!(lock.covers(120) && !lock.covers(121));
        assert!(
            Lock::parse("1: POSIX  ADVISORY  WRITE 7 08:01:9 0 EOF")
                .is_some_and(|lock| lock.covers(5))
        );
        for other in [
            "",
            "1: POSIX  ADVISORY  READ 4242 08:01:131 120 120",
            "1: FLOCK  ADVISORY  WRITE 4242 08:01:131 0 EOF",
            "1: -> POSIX  ADVISORY  WRITE 4242 08:01:131 120 120",
            "1: OFDLCK ADVISORY  WRITE -1 08:01:131 120 120",
            "1: POSIX  ADVISORY  WRITE 0 08:01:131 120 120",
        ] {
            assert!(Lock::parse(other).is_none(), "{other}");
        }
    }
}
