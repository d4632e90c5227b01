//! The environment of a data folder: the folder remembers the one that its server uses, and
//! `environment` prints or changes it (contract, section 12).

use clap::Args;

use super::database::Place;
use super::flags::{self, DEFAULT_ENVIRONMENT};
use super::{Common, Failed, open, print};
use crate::error::Code;
use crate::store::{Store, folder, nodes};
use crate::text::counted;

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
    let place = common.place()?;
    if !place.exists() {
        return Err(Failed::no_data(&place));
    }
    // A running server would go on with the former environment.
    let (store, _lock) = place.open_to_serve()?;
    refuse_beside_nodes(&store)?;
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

/// Refuses a change while nodes serve the database.
fn refuse_beside_nodes(store: &Store) -> Result<(), Failed> {
    match store.read_now(nodes::count)? {
        0 => Ok(()),
        nodes => Err(Failed::saying(format!(
            "{} on {}; stop them first",
            counted(nodes, "server runs", "servers run"),
            store.place()
        ))),
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
            Err(mismatch(&common.place()?, given, &remembered))
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

fn mismatch(place: &Place, given: &str, remembered: &str) -> Failed {
    if let Place::Server(..) = place {
        return Failed::saying(format!(
            "{place} belongs to the environment {remembered}, but --env (or SWITCHBOARD_ENV) is {given}; \
             leave --env out, choose another database, or change this one with 'switchboard environment {given}'"
        ));
    }
    Failed::saying(format!(
        "the data folder {place} belongs to the environment {remembered}, but --env (or SWITCHBOARD_ENV) is {given}; \
         leave --env out, choose another folder with --data, or change the folder with 'switchboard environment {given}'"
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
