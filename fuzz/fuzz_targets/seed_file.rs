//! Seed files: an imported file that is exported and imported again changes nothing.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use switchboard::error::Result;
use switchboard::input::seed::{self, Seed};
use switchboard::model::caller::Actor;
use switchboard::model::clock::Clock;
use switchboard::model::words::CallerKind;
use switchboard::store::import::{self, Rejected};
use switchboard::store::{Store, WriteTx, export, tenants};
use switchboard_fuzz::{assert_readable, refusal};
use tempfile::TempDir;

/// An empty data folder. Every import is rolled back.
static EMPTY: LazyLock<(TempDir, Store)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path(), Clock::System).expect("a data folder");
    (folder, store)
});

fn parsed(text: &str) -> Seed {
    seed::parse(text, "demo")
        .unwrap_or_else(|problems| panic!("an export is refused: {problems:?}\n{text}"))
}

fn exported(tx: &WriteTx<'_>) -> Result<Value> {
    export::world(tx.reader(), &tenants::all(tx.reader())?)
}

/// Imports a file, exports all tenants, and imports the export.
///
/// The second import must change nothing, and a second export must be the same.
fn round_trip(tx: &mut WriteTx<'_>, seed: &Seed, operator: &Actor) -> Result<()> {
    let imported = match import::apply(tx, seed, operator)? {
        Ok(imported) => imported,
        Err(Rejected(problems)) => {
            assert_readable(&problems);
            return Ok(());
        }
    };
    assert!(
        imported.created >= seed.resource_count(),
        "the store was empty"
    );
    let first_export = exported(tx)?;
    let again = import::apply(tx, &parsed(&first_export.to_string()), operator)?
        .unwrap_or_else(|rejected| panic!("an export is rejected: {rejected:?}"));
    assert_eq!((again.created, again.updated), (0, 0), "{first_export}");
    assert_eq!(exported(tx)?, first_export);
    tx.roll_back()
}

fuzz_target!(|text: &str| {
    let seed = match seed::parse(text, "demo") {
        Ok(seed) => seed,
        Err(problems) => return assert_readable(&problems),
    };
    let operator = Actor {
        kind: CallerKind::Operator,
        id: "command-line".to_owned(),
        name: None,
    };
    let outcome = EMPTY
        .1
        .write_now(move |tx| round_trip(tx, &seed, &operator));
    if let Err(error) = outcome {
        refusal(error);
    }
});
