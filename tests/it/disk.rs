//! A disk that is made of a record of what a program did to its files, and that can be cut off at any point of it.
//!
//! It keeps what was synced, and of the rest what chance wants: any of the writes, whole or only some sectors of them, and any
//! of the names that were given and taken. It is harsher than a file system with a journal, in which a file that was synced
//! has its name too. What a write left alone in a sector stays as it was, as SQLite expects of a disk (`SQLITE_POWERSAFE_OVERWRITE`).

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
/// The folder itself, as the record names it.
pub const FOLDER: &str = "";
/// The folder that it lies in.
const PARENT: &str = "..";

/// What happened.
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

/// Everything that programs did to one folder's files, in order.
pub struct Record {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

struct Entry {
    handle: u64,
    event: Event,
    /// Where it ends in the record.
    end: usize,
}

impl Record {
    /// Reads a record to its end.
    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let mut entries = Vec::new();
        let mut at = 0;
        // A process that was killed amid its last entry has left the beginning of it.
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

    /// How much happened.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How often a file was written from its beginning.
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

    /// How long the record was when so much had happened.
    pub fn length_at(&self, happened: usize) -> u64 {
        let end = happened
            .checked_sub(1)
            .map_or(0, |last| self.entries[last].end);
        u64::try_from(end).unwrap()
    }

    /// How much had happened when the record was so long.
    pub fn happened_at(&self, length: u64) -> usize {
        self.entries
            .partition_point(|entry| u64::try_from(entry.end).unwrap() <= length)
    }
}

/// A change that the disk may not have yet.
#[derive(Clone)]
enum Unsynced {
    Written { offset: usize, bytes: Range<usize> },
    Cut { length: usize },
}

#[derive(Clone, Default)]
struct File {
    /// What the disk has for sure.
    kept: Vec<u8>,
    waiting: Vec<(u64, Unsynced)>,
}

/// A change of names that the disk may not have yet.
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

/// What a sync reaches: what happened before it began.
struct Sync {
    before: u64,
}

/// The disk at a point of the record.
pub struct Disk<'a> {
    record: &'a Record,
    /// The file whose syncs this disk takes and forgets; `FOLDER` stands for the names in the folder.
    loses: Option<&'static str>,
    happened: usize,
    files: Vec<File>,
    /// The names that programs see.
    seen: BTreeMap<String, usize>,
    /// Those that the disk has for sure.
    kept: BTreeMap<String, usize>,
    waiting: Vec<(u64, Naming)>,
    open: HashMap<u64, Open>,
    syncing: HashMap<u64, Sync>,
    is_folder_made: bool,
    /// Whether the folder's own name is kept.
    has_folder: bool,
    changes: u64,
}

/// What chance leaves of what was not synced.
#[derive(Clone, Copy, Debug)]
pub struct Chance {
    /// Of a hundred writes and names, so many are kept.
    pub kept: usize,
    /// Of a hundred writes that are kept, so many have lost some of their sectors.
    pub torn: usize,
}

impl Chance {
    /// Nothing, all, or some of it.
    pub fn any(random: &mut Random) -> Self {
        Self {
            kept: random.pick(&[0, 20, 50, 80, 100]),
            torn: random.pick(&[0, 30, 100]),
        }
    }
}

impl<'a> Disk<'a> {
    /// An empty one.
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

    /// An empty one that keeps nothing of this file for sure, whatever it says.
    pub fn losing(record: &'a Record, file: &'static str) -> Self {
        Self {
            loses: Some(file),
            ..Self::of(record)
        }
    }

    /// Goes on until so much has happened. What chance takes of a failed sync it takes here.
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
                // The system has let go of what it could not write of a file, and syncs none of it later. Names are the
                // file system's own, which takes no more if it cannot write them.
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

    /// Puts on the disk what happened before a sync, as far as it is kept, and lets go of the rest of it.
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

    /// What programs see: everything that they did.
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

    /// Cuts the power here, and leaves the folder as the next start finds it, below `place`; it is not there if its name was lost.
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
            // Where a file became longer and its bytes were lost there is nothing, or what was there before.
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

/// Makes a change, sector by sector.
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
