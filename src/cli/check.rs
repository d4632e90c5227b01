//! `check`: damage is exit code 1; configuration that refuses end users is a warning.

use super::{Common, Failed, column, open, print};
use crate::store::check;
use crate::store::sqlite::check::LACKS_LOG;
use crate::text::counted;

pub(super) fn run(common: &Common) -> Result<(), Failed> {
    let store = open(common)?;
    let mut findings = check::run(&store)?;
    if store.lacks_log() {
        findings.warnings.insert(0, LACKS_LOG.to_owned());
    }
    for warning in &findings.warnings {
        print(format_args!("warning: {}", column(warning)))?;
    }
    for skipped in &findings.skipped {
        print(format_args!("skipped: {skipped}"))?;
    }
    let problems = findings.damage.iter().chain(&findings.contradictions);
    let lines: Vec<String> = problems.map(|problem| damage_line(problem)).collect();
    if !lines.is_empty() {
        return Err(Failed(lines));
    }
    print(format_args!(
        "ok: {}, {}, {}",
        counted(findings.sessions, "session", "sessions"),
        counted(findings.messages, "message", "messages"),
        counted(findings.warnings.len(), "warning", "warnings")
    ))
}

/// The line that reports damage or an inconsistency in a file.
pub(super) fn damage_line(problem: &str) -> String {
    format!("damage: {}", column(problem))
}
