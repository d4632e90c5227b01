//! A simulated disk that replays a recording of file operations and can lose power at any point.
//!
//! The disk retains synced data. Of unsynced data it retains a random part: any of the writes,
//! whole or only some of their sectors, and any of the created, renamed and removed names. This is
//! harsher than a journaling file system, which also persists the name of a synced file. Bytes of a
//! sector that a write does not touch stay unchanged, as SQLite expects
//! (`SQLITE_POWERSAFE_OVERWRITE`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::ops::Range;
use std::path::Path;

use crate::random::Random;

const SECTOR: usize = 512;
const HEAD: usize = 24;

/// The main file of a data folder.
pub const MAIN_FILE: &str = "switchboard.db";
/// Its write-ahead log.
pub const LOG: &str = "switchboard.db-wal";
/// The folder itself, as the recording names it.
pub const FOLDER: &str = "";
/// The folder's parent.
const PARENT: &str = "..";

/// A recorded file operation.
#[derive(Clone, Debug)]
enum Event {
    Opened { name: String, is_new: bool },
    Written { offset: usize, bytes: Range<usize> },
    Cut { length: usize },
    Syncing,
    Synced,
    SyncFailed,
    Unlinked { name: String },
    Renamed { from: String, to: String },
    FolderMade,
}

/// A recording of all operations on the files of one folder, in order.
pub struct Record {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

struct Entry {
    handle: u64,
    event: Event,
    /// The end of the entry in the recording, in bytes.
    end: usize,
}

impl Record {
    /// Reads a whole recording.
    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let mut entries = Vec::new();
        let mut at = 0;
        // A process that was killed while it wrote an entry leaves an incomplete one at the end.
        while at + HEAD <= bytes.len() {
            let long = |from: usize| u64::from_le_bytes(bytes[from..from + 8].try_into().unwrap());
            let short = |from: usize| u32::from_le_bytes(bytes[from..from + 4].try_into().unwrap());
            let offset = usize::try_from(long(at + 16)).unwrap();
            let length = usize::try_from(short(at + 4)).unwrap();
            let (begin, end) = (at + HEAD, at + HEAD + length);
            if end > bytes.len() {
                break;
            }
            let text = || String::from_utf8(bytes[begin..end].to_vec()).unwrap();
            let event = match short(at) {
                kind @ (1 | 2) => Event::Opened {
                    name: text(),
                    is_new: kind == 2,
                },
                3 => Event::Written {
                    offset,
                    bytes: begin..end,
                },
                4 => Event::Cut { length: offset },
                5 => Event::Syncing,
                6 => Event::Synced,
                7 => Event::SyncFailed,
                8 => Event::Unlinked { name: text() },
                9 => {
                    let names = text();
                    let (from, to) = names.split_once('\0').unwrap();
                    Event::Renamed {
                        from: from.to_owned(),
                        to: to.to_owned(),
                    }
                }
                10 => Event::FolderMade,
                kind => panic!("the record holds an entry of the kind {kind}"),
            };
            entries.push(Entry {
                handle: long(at + 8),
                event,
                end,
            });
            at = end;
        }
        Self { bytes, entries }
    }

    /// The number of events.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How often a file was written from its start, which counts the restarts of a write-ahead log.
    pub fn restarts_of(&self, file: &str) -> usize {
        let mut handles = HashSet::new();
        let mut beginnings = 0;
        for entry in &self.entries {
            if let Event::Opened { name, .. } = &entry.event
                && name == file
            {
                handles.insert(entry.handle);
            }
            if let Event::Written { offset: 0, .. } = entry.event
                && handles.contains(&entry.handle)
            {
                beginnings += 1;
            }
        }
        beginnings
    }

    /// The length of the recording in bytes after this number of events.
    pub fn length_at(&self, happened: usize) -> u64 {
        let end = happened
            .checked_sub(1)
            .map_or(0, |last| self.entries[last].end);
        u64::try_from(end).unwrap()
    }

    /// The number of events in a recording of this length in bytes.
    pub fn happened_at(&self, length: u64) -> usize {
        self.entries
            .partition_point(|entry| u64::try_from(entry.end).unwrap() <= length)
    }
}

/// A change of a file that is not synced yet.
#[derive(Clone)]
enum Unsynced {
    Written { offset: usize, bytes: Range<usize> },
    Cut { length: usize },
}

#[derive(Clone, Default)]
struct File {
    /// The durable content.
    kept: Vec<u8>,
    waiting: Vec<(u64, Unsynced)>,
}

/// A change of names that is not synced yet.
#[derive(Clone)]
enum Naming {
    Given { name: String, file: usize },
    Taken { name: String },
    Moved { from: String, to: String },
}

fn rename(names: &mut BTreeMap<String, usize>, naming: &Naming) {
    match naming {
        Naming::Given { name, file } => drop(names.insert(name.clone(), *file)),
        Naming::Taken { name } => drop(names.remove(name)),
        Naming::Moved { from, to } => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Open {
    File(usize),
    Folder,
    Parent,
}

/// The reach of a sync: all events before its start.
struct Sync {
    before: u64,
}

/// The disk at a point of the recording.
pub struct Disk<'a> {
    record: &'a Record,
    /// The file whose syncs this disk ignores; `FOLDER` stands for the names in the folder.
    loses: Option<&'static str>,
    happened: usize,
    files: Vec<File>,
    /// The names that programs see.
    seen: BTreeMap<String, usize>,
    /// The durable names.
    kept: BTreeMap<String, usize>,
    waiting: Vec<(u64, Naming)>,
    open: HashMap<u64, Open>,
    syncing: HashMap<u64, Sync>,
    is_folder_made: bool,
    /// Whether the folder's own name is durable.
    has_folder: bool,
    changes: u64,
}

/// The random part of unsynced data that survives.
#[derive(Clone, Copy, Debug)]
pub struct Chance {
    /// The percentage of writes and names that survive.
    pub kept: usize,
    /// The percentage of surviving writes that lose some of their sectors.
    pub torn: usize,
}

impl Chance {
    /// Nothing, everything, or a part.
    pub fn any(random: &mut Random) -> Self {
        Self {
            kept: random.pick(&[0, 20, 50, 80, 100]),
            torn: random.pick(&[0, 30, 100]),
        }
    }
}

impl<'a> Disk<'a> {
    /// An empty disk.
    pub fn of(record: &'a Record) -> Self {
        Self {
            record,
            loses: None,
            happened: 0,
            files: Vec::new(),
            seen: BTreeMap::new(),
            kept: BTreeMap::new(),
            waiting: Vec::new(),
            open: HashMap::new(),
            syncing: HashMap::new(),
            is_folder_made: false,
            has_folder: false,
            changes: 0,
        }
    }

    /// An empty disk that ignores the syncs of this file.
    pub fn losing(record: &'a Record, file: &'static str) -> Self {
        Self {
            loses: Some(file),
            ..Self::of(record)
        }
    }

    /// Replays events up to this number. Data that a failed sync loses is lost here.
    pub fn advance_to(&mut self, until: usize, random: &mut Random) {
        while self.happened < until {
            self.take(self.happened, random);
            self.happened += 1;
        }
    }

    fn take(&mut self, which: usize, random: &mut Random) {
        let entry = &self.record.entries[which];
        let handle = entry.handle;
        self.changes += 1;
        let now = self.changes;
        match &entry.event {
            Event::FolderMade => self.is_folder_made = true,
            Event::Opened { name, is_new } => {
                let open = match name.as_str() {
                    FOLDER => Open::Folder,
                    PARENT => Open::Parent,
                    name => Open::File(self.open_file(name, *is_new)),
                };
                self.open.insert(handle, open);
            }
            Event::Written { offset, bytes } => {
                let waiting = Unsynced::Written {
                    offset: *offset,
                    bytes: bytes.clone(),
                };
                self.file_of(handle).waiting.push((now, waiting));
            }
            Event::Cut { length } => {
                let waiting = Unsynced::Cut { length: *length };
                self.file_of(handle).waiting.push((now, waiting));
            }
            Event::Syncing => drop(self.syncing.insert(handle, Sync { before: now })),
            Event::Synced => {
                let before = self.syncing.remove(&handle).unwrap().before;
                if !self.loses(handle) {
                    self.keep(handle, before, |_| true);
                }
            }
            Event::SyncFailed => {
                // After a failed sync the kernel drops the dirty pages of a file and never writes
                // them later. Names belong to the file system, which goes read-only if it cannot
                // write them.
                let before = self.syncing.remove(&handle).unwrap().before;
                if matches!(self.open[&handle], Open::File(_)) {
                    self.keep(handle, before, |_| random.chance(1, 2));
                }
            }
            Event::Unlinked { name } => self.name(Naming::Taken { name: name.clone() }),
            Event::Renamed { from, to } => self.name(Naming::Moved {
                from: from.clone(),
                to: to.clone(),
            }),
        }
    }

    fn open_file(&mut self, name: &str, is_new: bool) -> usize {
        if !is_new {
            return self.seen[name];
        }
        self.files.push(File::default());
        let file = self.files.len() - 1;
        self.name(Naming::Given {
            name: name.to_owned(),
            file,
        });
        file
    }

    fn name(&mut self, naming: Naming) {
        rename(&mut self.seen, &naming);
        self.waiting.push((self.changes, naming));
    }

    fn file_of(&mut self, handle: u64) -> &mut File {
        match self.open[&handle] {
            Open::File(file) => &mut self.files[file],
            Open::Folder | Open::Parent => panic!("a folder is not written to"),
        }
    }

    fn loses(&self, handle: u64) -> bool {
        let Some(forgotten) = self.loses else {
            return false;
        };
        match self.open[&handle] {
            Open::File(file) => self.seen.get(forgotten) == Some(&file),
            Open::Folder => forgotten == FOLDER,
            Open::Parent => false,
        }
    }

    /// Makes the surviving part of the events before a sync durable and drops the rest.
    fn keep(&mut self, handle: u64, before: u64, mut is_kept: impl FnMut(u64) -> bool) {
        match self.open[&handle] {
            Open::Parent => self.has_folder |= self.is_folder_made,
            Open::Folder => {
                let reached = self.waiting.partition_point(|(when, _)| *when < before);
                for (when, naming) in self.waiting.drain(..reached) {
                    if is_kept(when) {
                        rename(&mut self.kept, &naming);
                    }
                }
            }
            Open::File(file) => {
                let file = &mut self.files[file];
                let reached = file.waiting.partition_point(|(when, _)| *when < before);
                for (when, waiting) in file.waiting.drain(..reached) {
                    if is_kept(when) {
                        put(&mut file.kept, &waiting, &self.record.bytes, 0, |_| true);
                    }
                }
            }
        }
    }

    /// The content that programs see: all their operations.
    pub fn as_seen(&self) -> BTreeMap<String, Vec<u8>> {
        let content = |file: &usize| {
            let file = &self.files[*file];
            let mut content = file.kept.clone();
            for (_, waiting) in &file.waiting {
                put(&mut content, waiting, &self.record.bytes, 0, |_| true);
            }
            content
        };
        let files = self.seen.iter();
        files
            .map(|(name, file)| (name.clone(), content(file)))
            .collect()
    }

    /// Cuts the power here, and writes the folder as the next start finds it to `place`. Writes
    /// nothing if the folder's own name was lost.
    pub fn cut(&self, place: &Path, chance: Chance, random: &mut Random) {
        let is_kept = |random: &mut Random| random.chance(chance.kept, 100);
        if !self.has_folder && !is_kept(random) {
            return;
        }
        fs::create_dir(place).unwrap();
        let mut names = self.kept.clone();
        for (_, naming) in &self.waiting {
            if is_kept(random) {
                rename(&mut names, naming);
            }
        }
        for (name, file) in &names {
            let file = &self.files[*file];
            let mut content = file.kept.clone();
            // A file that grew without its bytes has zeros there, or the old content of the disk.
            let garbage = if random.chance(1, 2) { 0 } else { 0xa5 };
            for (_, waiting) in &file.waiting {
                if !is_kept(random) {
                    continue;
                }
                let is_torn = random.chance(chance.torn, 100);
                put(&mut content, waiting, &self.record.bytes, garbage, |_| {
                    !is_torn || random.chance(1, 2)
                });
            }
            fs::write(place.join(name), content).unwrap();
        }
        if names.contains_key(LOG) && random.chance(1, 2) {
            let memory: Vec<u8> = (0..4_096)
                .flat_map(|_| random.bits().to_le_bytes())
                .collect();
            fs::write(place.join("switchboard.db-shm"), memory).unwrap();
        }
    }
}

/// Applies a change, sector by sector.
fn put(
    content: &mut Vec<u8>,
    waiting: &Unsynced,
    record: &[u8],
    garbage: u8,
    mut has_sector: impl FnMut(usize) -> bool,
) {
    match waiting {
        Unsynced::Cut { length } => content.resize(*length, 0),
        Unsynced::Written { offset, bytes } => {
            let (mut at, end) = (*offset, offset + bytes.len());
            while at < end {
                let next = ((at / SECTOR + 1) * SECTOR).min(end);
                if has_sector(at / SECTOR) {
                    if content.len() < next {
                        content.resize(next, garbage);
                    }
                    let from = bytes.start + (at - offset);
                    content[at..next].copy_from_slice(&record[from..from + (next - at)]);
                }
                at = next;
            }
        }
    }
}
