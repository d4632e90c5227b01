//! `import` and `export`: the seed file in and out (contract, section 11).

use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::{Common, Failed, open, operator, print};
use crate::error::Error;
use crate::fields::Problem;
use crate::model::names::ClientId;
use crate::seed;
use crate::store::import::{self, Imported, Rejected};
use crate::store::{Store, tenants};

#[derive(Args)]
pub(super) struct Import {
    /// The seed file; '-' for standard input
    file: PathBuf,
}

#[derive(Args)]
pub(super) struct Export {
    /// This tenant alone
    #[arg(long, env = "SWITCHBOARD_TENANT", value_name = "CLIENT_ID")]
    tenant: Option<String>,
}

pub(super) fn import(common: &Common, arguments: &Import) -> Result<(), Failed> {
    let text = if arguments.file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        fs::read_to_string(&arguments.file)
    };
    let text = text.map_err(|error| {
        Failed::saying(format!("cannot read {}: {error}", arguments.file.display()))
    })?;
    let store = open(common)?;
    let done = take(&store, &text, &common.environment)?;
    print(format_args!(
        "{} created, {} updated, {} unchanged",
        done.created, done.updated, done.unchanged
    ))
}

/// Takes a file's text into a store.
pub(super) fn take(store: &Store, text: &str, environment: &str) -> Result<Imported, Failed> {
    let seed = seed::parse(text, environment).map_err(|problems| listed(&problems))?;
    store
        .write_now(move |tx| import::apply(tx, &seed, &operator()))
        .map_err(|error| match error {
            Error::Internal(cause) => match cause.downcast::<Rejected>() {
                Ok(rejected) => listed(&rejected.0),
                Err(cause) => Failed::saying(cause.to_string()),
            },
            Error::Refused(refusal) => Failed::saying(refusal.message),
        })
}

/// One line a problem: path, value, reason.
fn listed(problems: &[Problem]) -> Failed {
    Failed(
        problems
            .iter()
            .map(|problem| {
                if problem.value.is_empty() {
                    format!("{}: {}", problem.path, problem.reason)
                } else {
                    format!("{}: {}: {}", problem.path, problem.value, problem.reason)
                }
            })
            .collect(),
    )
}

pub(super) fn export(common: &Common, arguments: &Export) -> Result<(), Failed> {
    let store = open(common)?;
    let world = store.read(|reader| {
        let tenants = match &arguments.tenant {
            None => tenants::all(reader)?,
            Some(named) => vec![find(reader, named)?],
        };
        import::export(reader, &tenants)
    })?;
    let text =
        serde_json::to_string_pretty(&world).map_err(|error| Failed::saying(error.to_string()))?;
    print(text)
}

/// The tenant that a flag names.
///
/// # Errors
/// A sentence that says so when there is none.
pub(super) fn find(
    reader: &crate::store::Reader<'_>,
    named: &str,
) -> Result<tenants::TenantRecord, Error> {
    let found = match ClientId::parse(named) {
        Some(client_id) => tenants::by_client_id(reader, &client_id)?,
        None => None,
    };
    found.ok_or_else(|| {
        Error::internal(format!(
            "there is no tenant {named:?}; 'switchboard tenants list' shows those that there are"
        ))
    })
}
