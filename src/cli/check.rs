//! `check`: exit 1 for damage; who would be refused today is a warning.

use super::{Common, Failed, column, open, print};
use crate::store::database_file;
use crate::store::sqlite::check;

pub(super) fn run(common: &Common) -> Result<(), Failed> {
    if !database_file(&common.folder()).is_file() {
        return Err(Failed::saying(format!(
            "there is no data in {}; choose another --data",
            common.folder().display()
        )));
    }
    let store = open(common)?;
    let findings = store.read_now(check::run)?;
    for warning in &findings.warnings {
        print(format_args!("warning: {}", column(warning)))?;
    }
    let wrong = findings.damage.iter().chain(&findings.contradictions);
    let wrong: Vec<String> = wrong.map(|what| wrong_line(what)).collect();
    if !wrong.is_empty() {
        return Err(Failed(wrong));
    }
    print(format_args!(
        "ok: {} sessions, {} messages, {} warnings",
        findings.sessions,
        findings.messages,
        findings.warnings.len()
    ))
}

/// How it is told that something is wrong in a file.
pub(super) fn wrong_line(what: &str) -> String {
    format!("damage: {}", column(what))
}
