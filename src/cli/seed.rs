//! `import` of seed files and of lists of companies, and `export` (contract, section 11).

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use clap::Args;
use clap::error::ErrorKind;
use indicatif::ProgressBar;

use super::flags::{self, Directories};
use super::{
    Common, Failed, bar, column, environment, open, open_or_create, operator, print, wrong_usage,
};
use crate::error::{Error, Result};
use crate::input::company_file::{CompanyRows, ListOptions, Remarks};
use crate::input::company_headings::HeadingMap;
use crate::input::company_set::CompanySet;
use crate::input::fields::Problem;
use crate::input::json::{self, NotUtf8};
use crate::input::problem_list::ProblemList;
use crate::input::seed::{self, Parsed, SeedCompany, UnknownFields};
use crate::model::names::ClientId;
use crate::store::import::{
    self, CompanyList, ImportOptions, Imported, LargeOptions, ONE_TRANSACTION, Rejected, Report,
};
use crate::store::tenants::{self, TenantRecord};
use crate::store::{ImportLock, Reader, Store, WriteTx, export};

#[derive(Args)]
pub(super) struct Import {
    /// A seed file (JSON), or with --tenant a list of companies (CSV); '-' reads standard input
    file: PathBuf,
    /// The tenant whose companies the CSV file lists; required for CSV, not allowed for a seed file
    #[arg(long, env = "SWITCHBOARD_TENANT", value_name = "CLIENT_ID")]
    tenant: Option<String>,
    /// Read the file as CSV whatever its name, with a column of ids and optionally of names and M365
    /// tenants
    #[arg(long, env = "SWITCHBOARD_CSV", value_parser = flags::switch)]
    csv: bool,
    /// Read the column of a CSV file that has this heading as psa_company_id, psa_company_name or
    /// tenant_id, such as "Company ID=psa_company_id"; separate several with semicolons or repeat
    /// the flag
    #[arg(
        long,
        env = "SWITCHBOARD_MAP",
        value_name = "HEADING=FIELD",
        value_delimiter = ';'
    )]
    map: Vec<HeadingMap>,
    /// Print each change on a line of its own, and write nothing
    #[arg(long, env = "SWITCHBOARD_DRY_RUN", value_parser = flags::switch)]
    dry_run: bool,
    /// Ignore fields that this version does not know, with a warning for each, to import a file of a
    /// later version; of a CSV file, ignore columns that can each be the same field
    #[arg(long, env = "SWITCHBOARD_ALLOW_UNKNOWN", value_parser = flags::switch)]
    allow_unknown: bool,
    #[command(flatten)]
    directories: Directories,
}

impl Import {
    fn unknown_fields(&self) -> UnknownFields {
        match self.allow_unknown {
            true => UnknownFields::Ignore,
            false => UnknownFields::Refuse,
        }
    }

    fn is_csv(&self) -> bool {
        let extension = self.file.extension();
        self.csv || extension.is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
    }

    fn open(&self) -> Result<Box<dyn Read>, Failed> {
        if self.file.as_os_str() == "-" {
            return Ok(Box::new(io::stdin().lock()));
        }
        let file = File::open(&self.file).map_err(|error| self.unreadable(&error))?;
        Ok(Box::new(file))
    }

    fn read(&self) -> Result<String, Failed> {
        let mut bytes = Vec::new();
        let read = self.open()?.read_to_end(&mut bytes);
        read.map_err(|error| self.unreadable(&error))?;
        let text = json::text_of(&bytes).map_err(|reason| match reason {
            NotUtf8::Encoded(encoding) => {
                self.unreadable(&format_args!("the file is {encoding}; save it as UTF-8"))
            }
            NotUtf8::At(byte) => self.unreadable(&format_args!(
                "byte {byte} is not UTF-8; save the file as UTF-8"
            )),
        })?;
        Ok(text.to_owned())
    }

    fn unreadable(&self, error: &dyn fmt::Display) -> Failed {
        Failed::saying(format!("cannot read {}: {error}", self.file.display()))
    }

    fn large(&self) -> LargeOptions {
        LargeOptions {
            dry_run: self.dry_run,
            directories: self.directories.rule(),
        }
    }
}

#[derive(Args)]
pub(super) struct Export {
    /// Export this tenant only [default: all tenants]
    #[arg(long, env = "SWITCHBOARD_TENANT", value_name = "CLIENT_ID")]
    tenant: Option<String>,
}

pub(super) fn import(common: &Common, arguments: &Import) -> Result<(), Failed> {
    let report = match (&arguments.tenant, arguments.is_csv()) {
        (Some(named), true) => import_companies(common, arguments, named)?,
        (None, false) if arguments.map.is_empty() => import_seed(common, arguments)?,
        (None, false) => wrong_usage(
            ErrorKind::ArgumentConflict,
            "--map is for a CSV file. Remove --map, or add --csv and --tenant",
        ),
        (None, true) => wrong_usage(
            ErrorKind::MissingRequiredArgument,
            "a CSV file lists one tenant's companies; name the tenant with --tenant CLIENT_ID",
        ),
        (Some(_), false) => wrong_usage(
            ErrorKind::ArgumentConflict,
            "--tenant is for a CSV file; a seed file names its tenants itself. Remove --tenant, or add --csv",
        ),
    };
    for line in &report.lines {
        // A column must not contain characters that break the line. The tabs between columns stay.
        let columns: Vec<String> = line.split('\t').map(column).collect();
        print(columns.join("\t").trim_end())?;
    }
    let Imported {
        created,
        updated,
        unchanged,
    } = report.done;
    let prefix = if arguments.dry_run {
        "dry run, nothing was written: "
    } else {
        ""
    };
    print(format_args!(
        "{prefix}{created} created, {updated} updated, {unchanged} unchanged"
    ))?;
    for finding in &report.findings {
        warn(&column(finding));
    }
    Ok(())
}

/// Adds the findings of the file's tenants, which a dry run has already.
fn with_findings(
    store: &Store,
    arguments: &Import,
    client_ids: &BTreeSet<ClientId>,
    mut report: Report,
) -> Result<Report, Failed> {
    if !arguments.dry_run {
        let rule = arguments.directories.rule();
        report.findings = store.read_now(|reader| import::findings(reader, client_ids, rule))?;
    }
    Ok(report)
}

fn import_seed(common: &Common, arguments: &Import) -> Result<Report, Failed> {
    let text = arguments.read()?;
    // A dry run creates no folder, and neither does a file with problems.
    let is_new = !common.place()?.exists() && !arguments.dry_run;
    let existing = match is_new {
        true => None,
        false => Some(open(common)?),
    };
    let environment = environment::of_any(existing.as_ref(), common)?;
    let parsed = seed::parse_with(&text, &environment, arguments.unknown_fields());
    drop(text);
    let seed = without_ignored(parsed)?;
    let store = match existing {
        Some(store) => store,
        None => open_or_create(common)?,
    };
    if !arguments.dry_run {
        environment::remember_given(&store, common)?;
    }
    let things = seed.resource_count();
    let tenants = seed.tenants.iter();
    let companies: usize = tenants.map(|tenant| tenant.end_companies.len()).sum();
    let tenants = seed.tenants.iter();
    let client_ids = tenants.map(|tenant| tenant.client_id.clone()).collect();
    if companies > ONE_TRANSACTION {
        let _lock = begin_large(&store, arguments)?;
        let bar = progress_bar(companies);
        let mut step = |done: usize| bar.inc(done as u64);
        let (actor, options) = (operator(), arguments.large());
        let outcome = import::apply_large(&store, seed, &actor, options, &mut step);
        let report = end_large(&store, &bar, outcome)?;
        return with_findings(&store, arguments, &client_ids, report);
    }
    resume(&store, arguments)?;
    let report = run(&store, things, arguments, move |tx, options| {
        import::apply_with(tx, &seed, &operator(), options)
    })?;
    with_findings(&store, arguments, &client_ids, report)
}

fn import_companies(common: &Common, arguments: &Import, named: &str) -> Result<Report, Failed> {
    let unreadable = |error: io::Error| arguments.unreadable(&error);
    let options = ListOptions {
        maps: arguments.map.clone(),
        unknown_fields: arguments.unknown_fields(),
    };
    let mut rows = CompanyRows::new(arguments.open()?, &options).map_err(unreadable)?;
    let mut companies = CompanySet::default();
    // A dry run keeps all companies, because it writes none of them.
    while arguments.dry_run || companies.len() <= ONE_TRANSACTION {
        let Some((line, row)) = rows.next() else {
            break;
        };
        if let Err(problem) = companies.add(line, row) {
            rows.report(problem);
        }
    }
    if companies.len() > ONE_TRANSACTION {
        return import_long_list(common, arguments, named, companies, rows);
    }
    let problems = tell(rows.end().map_err(unreadable)?).into_listed();
    if !problems.is_empty() {
        return Err(listed(&problems));
    }
    let companies = companies.into_companies().into_iter();
    let companies: Vec<SeedCompany> = companies.map(|(_, company)| company).collect();
    let (store, things) = (open(common)?, companies.len());
    let tenant = store.read_now(|reader| find(reader, named))?;
    resume(&store, arguments)?;
    let client_ids = BTreeSet::from([tenant.client_id.clone()]);
    let report = run(&store, things, arguments, move |tx, options| {
        import::apply_companies(tx, &tenant, &companies, &operator(), options)
    })?;
    with_findings(&store, arguments, &client_ids, report)
}

/// Imports a list of more companies than one transaction takes. It is never whole in memory.
fn import_long_list(
    common: &Common,
    arguments: &Import,
    named: &str,
    first: CompanySet,
    mut rows: CompanyRows<Box<dyn Read>>,
) -> Result<Report, Failed> {
    let store = open(common)?;
    let tenant = store.read_now(|reader| find(reader, named))?;
    let _lock = begin_large(&store, arguments)?;
    let bar = progress_bar(0);
    let mut list = CompanyList::new(&store, &tenant, arguments.large());
    for (line, company) in first.into_companies().into_iter().chain(&mut rows) {
        list.add(line, company)?;
        // Each company is checked and then written.
        bar.inc_length(2);
        bar.inc(1);
    }
    let problems = tell(rows.end().map_err(|error| arguments.unreadable(&error))?);
    let outcome = list.end(problems, &operator(), &mut |done| bar.inc(done as u64));
    let report = end_large(&store, &bar, outcome)?;
    let client_ids = BTreeSet::from([tenant.client_id]);
    with_findings(&store, arguments, &client_ids, report)
}

/// Waits until no other large import runs.
fn begin_large(store: &Store, arguments: &Import) -> Result<Option<ImportLock>, Failed> {
    if arguments.dry_run {
        return Ok(None);
    }
    let lock = import::begin_large(store, || {
        // Without stderr, nobody can read why it takes long.
        let _ = writeln!(
            io::stderr(),
            "another import runs in this data folder; this one begins when it has ended"
        );
    })?;
    Ok(lock)
}

/// Finishes an import that was interrupted.
fn resume(store: &Store, arguments: &Import) -> Result<(), Failed> {
    match arguments.dry_run {
        true => Ok(()),
        false => Ok(import::resume(store, &|| false)?),
    }
}

fn progress_bar(things: usize) -> ProgressBar {
    let bar = bar(PROGRESS);
    bar.set_length(things as u64);
    bar
}

fn end_large(
    store: &Store,
    bar: &ProgressBar,
    outcome: Result<Result<Report, Rejected>>,
) -> Result<Report, Failed> {
    bar.finish_and_clear();
    match outcome {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(Rejected(problems))) => Err(listed(&problems)),
        Err(error) => {
            let mut lines = Failed::from(error).0;
            if import::is_applying(store) {
                lines.push(
                    "some companies of the file are imported; a running server or the next import finishes the rest"
                        .to_owned(),
                );
            }
            Err(Failed(lines))
        }
    }
}

/// The progress of an import.
const PROGRESS: &str = "{bar:40} {pos} of {len}, {eta} left";

/// Runs an import, with a progress bar.
fn run(
    store: &Store,
    things: usize,
    arguments: &Import,
    apply: impl FnOnce(&mut WriteTx<'_>, ImportOptions<'_>) -> Result<Result<Report, Rejected>>
    + Send
    + 'static,
) -> Result<Report, Failed> {
    let bar = progress_bar(things);
    let shown = bar.clone();
    let (dry_run, directories) = (arguments.dry_run, arguments.directories.rule());
    let outcome = store.write_now(move |tx| {
        let mut step = || shown.inc(1);
        let options = ImportOptions {
            dry_run,
            directories,
            step: &mut step,
        };
        apply(tx, options)
    });
    bar.finish_and_clear();
    outcome?.map_err(|Rejected(problems)| listed(&problems))
}

/// Imports a seed file's text into a store.
pub(super) fn take(store: &Store, text: &str, environment: &str) -> Result<Imported, Failed> {
    let seed = seed::parse(text, environment).map_err(|problems| listed(&problems))?;
    store
        .write_now(move |tx| import::apply(tx, &seed, &operator()))?
        .map_err(|Rejected(problems)| listed(&problems))
}

/// Returns what a file holds, after a warning for each field that is ignored.
fn without_ignored<T>(parsed: Result<Parsed<T>, Vec<Problem>>) -> Result<T, Failed> {
    let Parsed { contents, ignored } = parsed.map_err(|problems| listed(&problems))?;
    for problem in &ignored {
        warn(&format!("ignored: {}", line(problem)));
    }
    Ok(contents)
}

/// Tells what a list has beside its companies. Returns the problems.
fn tell(remarks: Remarks) -> ProblemList {
    if let Some(mapped) = remarks.mapped {
        // Without stderr, nobody can read this.
        let _ = writeln!(io::stderr(), "note: {mapped}");
    }
    for warning in remarks.warnings.into_listed() {
        warn(&line(&warning));
    }
    remarks.problems
}

fn warn(text: &str) {
    // Without stderr, nobody can read the warning.
    let _ = writeln!(io::stderr(), "warning: {text}");
}

/// Lists the problems, one per line.
fn listed(problems: &[Problem]) -> Failed {
    Failed(problems.iter().map(line).collect())
}

/// A problem in one line: path, value if there is one, reason.
fn line(problem: &Problem) -> String {
    let Problem {
        path,
        value,
        reason,
    } = problem;
    match value.as_str() {
        "" if reason.is_empty() => path.clone(),
        "" => format!("{path}: {reason}"),
        value => format!("{path}: {value}: {reason}"),
    }
}

pub(super) fn export(common: &Common, arguments: &Export) -> Result<(), Failed> {
    let store = open(common)?;
    let seed_file = store.read_now(|reader| {
        let tenants = match &arguments.tenant {
            None => tenants::all(reader)?,
            Some(named) => vec![find(reader, named)?],
        };
        export::world(reader, &tenants)
    })?;
    let text = serde_json::to_string_pretty(&seed_file)
        .map_err(|error| Failed::saying(error.to_string()))?;
    print(text)
}

/// Finds the tenant that a flag names.
///
/// # Errors
/// A message for the operator if there is no such tenant.
pub(super) fn find(reader: &Reader<'_>, named: &str) -> Result<TenantRecord> {
    let found = match ClientId::parse(named) {
        Some(client_id) => tenants::by_client_id(reader, &client_id)?,
        None => None,
    };
    found.ok_or_else(|| {
        Error::internal(format!(
            "the tenant {named:?} does not exist; 'switchboard tenants list' shows the tenants"
        ))
    })
}
