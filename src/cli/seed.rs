//! `import` of seed files and of lists of companies, and `export` (contract, section 11).

use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;

use super::flags::Directories;
use super::{Common, Failed, bar, column, open, operator, print, wrong_usage};
use crate::error::{Error, Result};
use crate::input::company_file;
use crate::input::fields::Problem;
use crate::input::seed::{self, Parsed, UnknownFields};
use crate::model::names::ClientId;
use crate::store::import::{self, ImportOptions, Imported, Rejected, Report};
use crate::store::tenants::{self, TenantRecord};
use crate::store::{Reader, Store, WriteTx, export};

#[derive(Args)]
pub(super) struct Import {
    /// A seed file (JSON), or with --tenant a list of companies (CSV); '-' reads standard input
    file: PathBuf,
    /// The tenant whose companies the CSV file lists; required for CSV, not allowed for a seed file
    #[arg(long, env = "SWITCHBOARD_TENANT", value_name = "CLIENT_ID")]
    tenant: Option<String>,
    /// Read the file as CSV whatever its name, with the column psa_company_id and optionally
    /// psa_company_name and tenant_id
    #[arg(long, env = "SWITCHBOARD_CSV", value_parser = BoolishValueParser::new())]
    csv: bool,
    /// Print each change on a line of its own, and write nothing
    #[arg(long, env = "SWITCHBOARD_DRY_RUN", value_parser = BoolishValueParser::new())]
    dry_run: bool,
    /// Ignore fields and columns that this version does not know, with a warning for each, to import
    /// a file of a later version
    #[arg(long, env = "SWITCHBOARD_ALLOW_UNKNOWN", value_parser = BoolishValueParser::new())]
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

    fn read(&self) -> Result<Vec<u8>, Failed> {
        let mut bytes = Vec::new();
        let read = if self.file.as_os_str() == "-" {
            io::stdin().read_to_end(&mut bytes).map(|_| bytes)
        } else {
            fs::read(&self.file)
        };
        read.map_err(|error| {
            Failed::saying(format!("cannot read {}: {error}", self.file.display()))
        })
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
        (None, false) => import_seed(common, arguments)?,
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
    ))
}

fn import_seed(common: &Common, arguments: &Import) -> Result<Report, Failed> {
    let text = String::from_utf8(arguments.read()?).map_err(|error| {
        Failed::saying(format!("cannot read {}: {error}", arguments.file.display()))
    })?;
    let parsed = seed::parse_with(&text, &common.environment, arguments.unknown_fields());
    let seed = without_ignored(parsed)?;
    let (store, things) = (open(common)?, seed.resource_count());
    run(&store, things, arguments, move |tx, options| {
        import::apply_with(tx, &seed, &operator(), options)
    })
}

fn import_companies(common: &Common, arguments: &Import, named: &str) -> Result<Report, Failed> {
    let parsed = company_file::parse(&arguments.read()?, arguments.unknown_fields());
    let companies = without_ignored(parsed)?;
    let (store, things) = (open(common)?, companies.len());
    let tenant = store.read_now(|reader| find(reader, named))?;
    run(&store, things, arguments, move |tx, options| {
        import::apply_companies(tx, &tenant, &companies, &operator(), options)
    })
}

/// Runs an import, with a progress bar.
fn run(
    store: &Store,
    things: usize,
    arguments: &Import,
    apply: impl FnOnce(&mut WriteTx<'_>, ImportOptions<'_>) -> Result<Result<Report, Rejected>>
    + Send
    + 'static,
) -> Result<Report, Failed> {
    let bar = bar("{bar:40} {pos} of {len}, {eta} left");
    bar.set_length(things as u64);
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
        // Without stderr, nobody can read the warning.
        let _ = writeln!(io::stderr(), "warning: ignored: {}", line(problem));
    }
    Ok(contents)
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
