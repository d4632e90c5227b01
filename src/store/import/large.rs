//! Imports of more companies than one transaction may take.
//!
//! The import first checks all rows by reads and stages them. Then it applies them in small
//! changes, between the changes of other processes. A crash before the first of these changes drops
//! the import. After a later crash, the running server, the next server or the next import finishes
//! it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::companies::decide;
use super::findings::{self, Foreseen};
use super::report::Tally;
use super::staging::{self, Checked, ImportNo};
use super::{Import, ImportOptions, Imported, LIST_SEPARATOR, Rejected, Report, apply_staged};
use crate::error::Result;
use crate::input::fields::Field;
use crate::input::problem_list::ProblemList;
use crate::input::seed::{Seed, SeedCompany};
use crate::model::caller::Actor;
use crate::model::directory::DirectoryRule;
use crate::model::names::{ClientId, CompanyId, TenantNo};
use crate::store::companies::CompanyRecord;
use crate::store::tenants::{self, TenantRecord};
use crate::store::{ImportLock, Reader, Store};

/// Changes of companies that one transaction takes.
pub const ONE_TRANSACTION: usize = 5_000;
/// Rows that are checked, staged or removed at a time.
const BATCH: usize = 2_000;
/// Companies that one change writes, at most.
const CHUNK: usize = 2_000;
/// How long one change writes companies.
const CHUNK_TIME: Duration = Duration::from_millis(50);
/// The pause after a change, in which another process gets the lock. A waiting process tries about
/// once a millisecond.
const PAUSE: Duration = Duration::from_millis(5);
/// How often a server looks for an import that was interrupted.
const RESUME_EVERY: Duration = Duration::from_secs(10);

/// How a large import runs.
#[derive(Clone, Copy, Debug)]
pub struct LargeOptions {
    /// Nothing is written, and the report has a line for each thing.
    pub dry_run: bool,
    /// The ids that the file may give to directories.
    pub directories: DirectoryRule,
}

/// Companies of one tenant that were checked, and staged unless it is a dry run.
#[derive(Default)]
pub(super) struct Staged {
    import: Option<ImportNo>,
    done: Imported,
    lines: Vec<String>,
    /// The problems of the rows among themselves.
    contradictions: ProblemList,
    /// The problems with what is stored.
    problems: ProblemList,
    /// What the companies are after a dry run.
    foreseen: Vec<CompanyRecord>,
    /// The companies that other things of the file name.
    referenced: Vec<SeedCompany>,
}

/// How the place of a company in its file is told.
enum Places {
    /// By its line in a list.
    Lines,
    /// By its number in this list of a seed file.
    Items(String),
}

impl Places {
    fn path(&self, position: u64) -> String {
        match self {
            Self::Lines => format!("line {position}"),
            Self::Items(list) => format!("{list}[{position}]"),
        }
    }

    /// What separates the path from the name of a field.
    fn separator(&self) -> &'static str {
        match self {
            Self::Lines => LIST_SEPARATOR,
            Self::Items(_) => ".",
        }
    }
}

/// A list of companies that is staged row by row, and then checked.
pub struct CompanyList<'a> {
    store: &'a Store,
    tenant: Option<TenantNo>,
    client_id: ClientId,
    places: Places,
    options: LargeOptions,
    batch: Vec<(u64, SeedCompany)>,
    staged: Staged,
}

impl<'a> CompanyList<'a> {
    /// A list of a tenant's companies. The caller holds the lock of [`begin_large`], unless it is a
    /// dry run.
    pub fn new(store: &'a Store, tenant: &TenantRecord, options: LargeOptions) -> Self {
        let client_id = tenant.client_id.clone();
        Self::of(store, Some(tenant.no), client_id, Places::Lines, options)
    }

    fn of(
        store: &'a Store,
        tenant: Option<TenantNo>,
        client_id: ClientId,
        places: Places,
        options: LargeOptions,
    ) -> Self {
        Self {
            store,
            tenant,
            client_id,
            places,
            options,
            batch: Vec::new(),
            staged: Staged::default(),
        }
    }

    /// Adds a row of a company. Positions grow. In a dry run, each company has one row.
    pub fn add(&mut self, position: u64, company: SeedCompany) -> Result<()> {
        self.batch.push((position, company));
        match self.batch.len() {
            BATCH => self.flush(),
            _ => Ok(()),
        }
    }

    /// Stages the waiting rows. A dry run checks them at once.
    fn flush(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        if self.options.dry_run {
            return self.check(&batch).map(drop);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let import = match self.staged.import {
            Some(import) => import,
            None => {
                let rule = self.options.directories;
                let import = self.store.write_now(move |tx| staging::begin(tx, rule))?;
                *self.staged.import.insert(import)
            }
        };
        let problems = (self.store).write_now(move |tx| staging::add(tx, import, &batch))?;
        self.staged.contradictions.extend(problems);
        std::thread::sleep(PAUSE);
        Ok(())
    }

    /// Checks what is staged.
    fn check_staged(&mut self) -> Result<()> {
        self.flush()?;
        let Some(import) = self.staged.import else {
            return Ok(());
        };
        let mut last = -1;
        loop {
            let read = |reader: &Reader<'_>| staging::after(reader, import, last, BATCH);
            let mut batch = self.store.read_now(read)?;
            let Some((position, _)) = batch.last() else {
                return Ok(());
            };
            last = i64::try_from(*position).unwrap_or(i64::MAX);
            for (position, company) in &mut batch {
                company.path = self.places.path(*position);
            }
            let checked = self.check(&batch)?;
            (self.store).write_now(move |tx| staging::settle(tx, import, &checked))?;
            std::thread::sleep(PAUSE);
        }
    }

    /// Compares companies with the store.
    fn check(&mut self, batch: &[(u64, SeedCompany)]) -> Result<Vec<Checked>> {
        let (tenant, options) = (self.tenant, self.options);
        let mut no_step = || ();
        let mut tally = Tally::new(ImportOptions {
            dry_run: options.dry_run,
            directories: options.directories,
            step: &mut no_step,
        });
        tally.client_id = self.client_id.to_string();
        tally.separator = self.places.separator();
        let mut checked = Vec::with_capacity(batch.len());
        self.store.read_now(|reader| {
            for (_, company) in batch {
                let decision = decide(reader, tenant, company, options.directories)?;
                tally.company(&company.path, &decision);
                checked.push(Checked {
                    id: company.psa_company_id.clone(),
                    is_change: decision.is_change(),
                    holds: decision.holds(reader, tenant)?,
                });
                if options.dry_run {
                    self.staged.foreseen.extend(decision.into_after());
                }
            }
            Ok(())
        })?;
        let staged = &mut self.staged;
        staged.done.add(tally.done);
        staged.lines.append(&mut tally.lines);
        staged.problems.extend(tally.problems.into_all());
        Ok(checked)
    }

    /// Imports the list, unless there are problems: those of the file's form, or else those with
    /// what is stored. `step` is called with the number of companies of each change.
    pub fn end(
        mut self,
        form: ProblemList,
        actor: &Actor,
        step: &mut dyn FnMut(usize),
    ) -> Result<Result<Report, Rejected>> {
        self.flush()?;
        let mut problems = form;
        problems.append(std::mem::take(&mut self.staged.contradictions));
        if problems.is_empty() {
            self.check_staged()?;
            problems = std::mem::take(&mut self.staged.problems);
        }
        let (store, tenant) = (self.store, self.tenant);
        let staged = self.staged;
        let done = staged.done;
        let is_refused = !problems.is_empty();
        let mut findings = Vec::new();
        if self.options.dry_run && !is_refused {
            let rule = self.options.directories;
            let client_ids = BTreeSet::from([self.client_id.clone()]);
            let foreseen = Foreseen::from([(self.client_id, staged.foreseen)]);
            findings =
                store.read_now(|reader| findings::after(reader, &client_ids, foreseen, rule))?;
        }
        if let (Some(import), Some(tenant)) = (staged.import, tenant) {
            let actor = actor.clone();
            store.write_now(move |tx| {
                if is_refused || done.changes() == 0 {
                    return staging::end(tx, import);
                }
                staging::begin_to_apply(tx, import, tenant, done, Some(&actor))?;
                if done.changes() <= ONE_TRANSACTION {
                    while staging::apply_next(tx, import, CHUNK, None)? > 0 {}
                }
                Ok(())
            })?;
            finish(store, import, step, &|| false)?;
            clean(store, &|| false)?;
        }
        Ok(match is_refused {
            true => Err(Rejected(problems.into_listed())),
            false => Ok(Report {
                done,
                lines: staged.lines,
                findings,
            }),
        })
    }
}

/// Imports a seed file with more companies than one transaction takes. Everything else of the file
/// is in one transaction. After its commit, the companies are always written, even after a crash.
/// `step` is called with the number of companies of each change. The caller holds the lock of
/// [`begin_large`], unless it is a dry run.
pub fn apply_large(
    store: &Store,
    mut seed: Seed,
    actor: &Actor,
    options: LargeOptions,
    step: &mut dyn FnMut(usize),
) -> Result<Result<Report, Rejected>> {
    let (mut staged, mut imports) = (HashMap::new(), Vec::new());
    for tenant in &mut seed.tenants {
        let companies = std::mem::take(&mut tenant.end_companies);
        if companies.is_empty() {
            continue;
        }
        let client_id = tenant.client_id.clone();
        let known = store.read_now(|reader| tenants::by_client_id(reader, &client_id))?;
        let articles = tenant.knowledge_articles.iter();
        let named: HashSet<&CompanyId> = articles
            .filter_map(|article| match &article.draft.end_company_id {
                Field::Set(company) => Some(company),
                Field::Null | Field::Absent => None,
            })
            .collect();
        let no = known.map(|known| known.no);
        let places = Places::Items(format!("{}.end_companies", tenant.path));
        let mut list = CompanyList::of(store, no, client_id.clone(), places, options);
        for (position, company) in (0..).zip(companies) {
            if named.contains(&company.psa_company_id) {
                list.staged.referenced.push(company.clone());
            }
            list.add(position, company)?;
        }
        list.check_staged()?;
        imports.extend(list.staged.import);
        staged.insert(client_id, list.staged);
    }
    let actor = actor.clone();
    let outcome = store.write_now(move |tx| {
        let options = ImportOptions {
            dry_run: options.dry_run,
            directories: options.directories,
            step: &mut || (),
        };
        apply_staged(tx, &seed, &actor, options, staged)
    })?;
    for import in imports {
        if outcome.is_err() {
            store.write_now(move |tx| staging::end(tx, import))?;
        }
        finish(store, import, step, &|| false)?;
    }
    if !options.dry_run {
        clean(store, &|| false)?;
    }
    Ok(outcome)
}

impl Import<'_, '_, '_> {
    pub(super) fn stage(&mut self, staged: HashMap<ClientId, Staged>) {
        let changes: usize = staged.values().map(|staged| staged.done.changes()).sum();
        self.applies_staged = changes <= ONE_TRANSACTION;
        self.staged = staged;
    }

    /// Reports staged companies, and writes those that the rest of the file names. Begins to apply
    /// the others.
    pub(super) fn staged_companies(
        &mut self,
        tenant: TenantNo,
        client_id: &ClientId,
        staged: Staged,
    ) -> Result<()> {
        self.tally.done.add(staged.done);
        self.tally.lines.extend(staged.lines);
        self.tally.problems.extend(staged.problems.into_listed());
        if self.tally.options.dry_run {
            self.foreseen.insert(client_id.clone(), staged.foreseen);
        }
        for company in &staged.referenced {
            let rule = self.tally.options.directories;
            let decision = decide(self.tx.reader(), Some(tenant), company, rule)?;
            decision.write(self.tx, tenant)?;
        }
        if let Some(import) = staged.import {
            staging::begin_to_apply(self.tx, import, tenant, staged.done, None)?;
            if self.applies_staged {
                while staging::apply_next(self.tx, import, CHUNK, None)? > 0 {}
            }
        }
        Ok(())
    }
}

/// Locks the folder for a large import, and finishes the one that was interrupted. `waits` is called
/// if another import is running.
///
/// # Errors
/// The disk fails.
pub fn begin_large(store: &Store, waits: impl FnOnce()) -> Result<Option<ImportLock>> {
    let lock = match store.lock_for_import(false)? {
        Some(lock) => Some(lock),
        None => {
            waits();
            store.lock_for_import(true)?
        }
    };
    resume_locked(store, &|| false)?;
    Ok(lock)
}

/// Whether an import is being applied, as far as the store can be read.
pub fn is_applying(store: &Store) -> bool {
    let begun = store.read_now(staging::all).unwrap_or_default();
    begun.iter().any(|import| import.is_applying)
}

/// Finishes an interrupted import, if there is one. Does nothing while another import runs.
pub fn resume(store: &Store, must_stop: &dyn Fn() -> bool) -> Result<()> {
    if store.read_now(staging::is_empty)? {
        return Ok(());
    }
    match store.lock_for_import(false)? {
        Some(_lock) => resume_locked(store, must_stop),
        None => Ok(()),
    }
}

fn resume_locked(store: &Store, must_stop: &dyn Fn() -> bool) -> Result<()> {
    for import in store.read_now(staging::all)? {
        if import.is_applying {
            log::info!("an import of companies was interrupted, and goes on");
            finish(store, import.number, &mut |_| (), must_stop)?;
            if !must_stop() {
                log::info!("the interrupted import of companies is finished");
            }
        } else {
            log::warn!(
                "an import was interrupted before its first change, and is dropped; import the file again"
            );
            store.write_now(move |tx| staging::end(tx, import.number))?;
        }
    }
    clean(store, must_stop)
}

/// Applies the rest of an import if it was being applied. Otherwise drops the import.
fn finish(
    store: &Store,
    import: ImportNo,
    step: &mut dyn FnMut(usize),
    must_stop: &dyn Fn() -> bool,
) -> Result<()> {
    while !must_stop() {
        let done = store.write_now(move |tx| {
            let deadline = Instant::now() + CHUNK_TIME;
            staging::apply_next(tx, import, CHUNK, Some(deadline))
        })?;
        if done == 0 {
            break;
        }
        step(done);
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Removes the rows of imports that have ended.
fn clean(store: &Store, must_stop: &dyn Fn() -> bool) -> Result<()> {
    while !must_stop() && store.write_now(|tx| staging::clean(tx, BATCH))? > 0 {
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// A server's thread that finishes interrupted imports. Dropping it stops it.
pub struct Resumer {
    must_stop: Arc<AtomicBool>,
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Resumer {
    /// Starts the thread.
    pub fn start(store: Store) -> Self {
        let must_stop = Arc::new(AtomicBool::new(false));
        let (wake, woken) = channel::<()>();
        let stopping = Arc::clone(&must_stop);
        let thread = std::thread::spawn(move || {
            loop {
                let outcome = resume(&store, &|| stopping.load(Ordering::Relaxed));
                if let Err(error) = outcome {
                    log::warn!("an interrupted import is not finished yet: {error}");
                }
                if woken.recv_timeout(RESUME_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        Self {
            must_stop,
            wake: Some(wake),
            thread: Some(thread),
        }
    }
}

impl Drop for Resumer {
    fn drop(&mut self) {
        self.must_stop.store(true, Ordering::Relaxed);
        self.wake = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread that finishes imports has panicked");
        }
    }
}
