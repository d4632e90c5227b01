//! The environment of a data folder: the folder remembers the one that its server uses, and
//! `environment` prints or changes it (contract, section 12).

use std::path::Path;

use clap::Args;

use super::flags::{self, DEFAULT_ENVIRONMENT};
use super::{Common, Failed, open, print};
use crate::error::Code;
use crate::model::clock::Clock;
use crate::store::{Store, database_file, folder};

#[derive(Args)]
pub(super) struct Arguments {
    /// The new environment; API keys of the former one stop working [default: print the
    /// environment]
    #[arg(value_parser = flags::environment)]
    name: Option<String>,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> Result<(), Failed> {
    let Some(name) = &arguments.name else {
        return print(of(&open(common)?, common)?);
    };
    let path = common.folder();
    if !database_file(&path).is_file() {
        return Err(Failed::no_data(&path));
    }
    // A running server would go on with the former environment.
    let (store, _lock) = Store::open_to_serve(&path, Clock::System)?;
    let former = store.read_now(folder::environment)?;
    let new = name.clone();
    store.write_now(move |tx| folder::set_environment(tx, &new))?;
    match former {
        Some(former) if former != *name => print(format_args!(
            "{name}; API keys of {former} no longer work: create new ones with 'switchboard keys create'"
        )),
        Some(_) | None => print(name),
    }
}

/// The environment of a data folder: the given one, else the one that the folder remembers.
///
/// # Errors
/// A message for the operator if the folder belongs to another environment than the given one.
pub(super) fn of(store: &Store, common: &Common) -> Result<String, Failed> {
    of_any(Some(store), common)
}

/// As [`of`], for a folder that may have no data yet.
pub(super) fn of_any(store: Option<&Store>, common: &Common) -> Result<String, Failed> {
    let remembered = store.and_then(remembered);
    match (&common.environment, remembered) {
        (Some(given), Some(remembered)) if *given != remembered => {
            Err(mismatch(&common.folder(), given, &remembered))
        }
        (Some(given), _) => Ok(given.clone()),
        (None, Some(remembered)) => Ok(remembered),
        (None, None) => Ok(DEFAULT_ENVIRONMENT.to_owned()),
    }
}

/// A damaged file remembers nothing here: the command itself reports the damage.
fn remembered(store: &Store) -> Option<String> {
    store.read_now(folder::environment).unwrap_or_default()
}

fn mismatch(folder: &Path, given: &str, remembered: &str) -> Failed {
    Failed::saying(format!(
        "the data folder {} belongs to the environment {remembered}, but --env (or SWITCHBOARD_ENV) is {given}; \
         leave --env out, choose another folder with --data, or change the folder with 'switchboard environment {given}'",
        folder.display()
    ))
}

/// Has the folder remember the environment of `--env`, unless it remembers one already.
pub(super) fn remember_given(store: &Store, common: &Common) -> Result<(), Failed> {
    match &common.environment {
        Some(given) => remember(store, given),
        None => Ok(()),
    }
}

/// Has the folder remember an environment, unless it remembers one already. A server can start on a
/// full disk.
pub(super) fn remember(store: &Store, environment: &str) -> Result<(), Failed> {
    if remembered(store).is_some() {
        return Ok(());
    }
    let environment = environment.to_owned();
    match store.write_now(move |tx| folder::set_environment(tx, &environment)) {
        Err(error) if error.is(Code::StorageFull) => Ok(()),
        outcome => Ok(outcome?),
    }
}
