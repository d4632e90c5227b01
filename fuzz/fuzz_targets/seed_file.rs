//! The seed file: what is taken of one and exported is the same file to the importer.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use switchboard::error::{Error, Result};
use switchboard::model::caller::Actor;
use switchboard::model::clock::Clock;
use switchboard::model::words::CallerKind;
use switchboard::input::seed::{self, Seed};
use switchboard::store::import::{self, Rejected};
use switchboard::store::{Store, WriteTx, export, tenants};
use switchboard_fuzz::{assert_told, refusal};
use tempfile::TempDir;

/// An empty data folder: nothing that is taken stays in it.
static EMPTY: LazyLock<(TempDir, Store)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path(), Clock::System).expect("a data folder");
    (folder, store)
});

#[derive(Debug, thiserror::Error)]
#[error("all of it is undone")]
struct Undone;

fn parsed(text: &str) -> Seed {
    seed::parse(text, "demo")
        .unwrap_or_else(|problems| panic!("exported, and refused: {problems:?}\n{text}"))
}

fn exported(tx: &WriteTx<'_>) -> Result<Value> {
    export::world(tx.reader(), &tenants::all(tx.reader())?)
}

/// Takes a file, exports all, and takes that: nothing is left to do, and the same would be exported again.
fn come_back(tx: &mut WriteTx<'_>, seed: &Seed, operator: &Actor) -> Result<()> {
    let taken = import::apply(tx, seed, operator)?;
    assert!(taken.created >= seed.resource_count(), "into an empty store");
    let world = exported(tx)?;
    let again = import::apply(tx, &parsed(&world.to_string()), operator)?;
    assert_eq!((again.created, again.updated), (0, 0), "{world}");
    assert_eq!(exported(tx)?, world);
    Err(Error::Internal(Undone.into()))
}

fuzz_target!(|text: &str| {
    let seed = match seed::parse(text, "demo") {
        Ok(seed) => seed,
        Err(problems) => return assert_told(&problems),
    };
    let operator = Actor {
        kind: CallerKind::Operator,
        id: "command-line".to_owned(),
        name: None,
    };
    let outcome = EMPTY.1.write_now(move |tx| come_back(tx, &seed, &operator));
    match outcome {
        Ok(()) => unreachable!(),
        Err(Error::Internal(cause)) if cause.is::<Undone>() => {}
        Err(Error::Internal(cause)) => match cause.downcast::<Rejected>() {
            Ok(rejected) => assert_told(&rejected.0),
            Err(cause) => panic!("neither taken nor refused: {cause}"),
        },
        Err(refused) => {
            refusal(refused);
        }
    }
});
