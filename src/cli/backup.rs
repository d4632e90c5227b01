//! `backup` and `restore`: copy a data folder to one file, and back into an empty folder (contract,
//! section 12).

use std::path::PathBuf;

use clap::Args;

use super::check::damage_line;
use super::{Common, Failed, bar, print};
use crate::auth::signing::SigningSecret;
use crate::model::clock::{Millis, rfc3339};
use crate::store::contents::Contents;
use crate::store::sqlite::backup::{self, Copied, Progress};
use crate::text::counted;

/// The maximum number of problems that a copy reports. `check` reports all.
const MAX_PROBLEMS: usize = 20;

#[derive(Args)]
pub(super) struct BackUp {
    /// The file to create; it must not exist yet
    file: PathBuf,
}

#[derive(Args)]
pub(super) struct Restore {
    /// A file that 'backup' wrote, or another complete copy of switchboard.db
    file: PathBuf,
}

/// What makes and restores backups of a PostgreSQL database.
const BACK_UP_OTHERWISE: &str = "a PostgreSQL database is backed up by PostgreSQL's own tools: pg_dump --format=custom --file=FILE URL, or continuous archiving (point-in-time recovery)";
const RESTORE_OTHERWISE: &str = "a PostgreSQL database is restored by PostgreSQL's own tools: pg_restore --dbname=URL FILE, into an empty database";

pub(super) fn back_up(common: &Common, arguments: &BackUp) -> Result<(), Failed> {
    let file = &arguments.file;
    let place = common.place()?;
    let folder = place.folder(BACK_UP_OTHERWISE)?;
    let copied = with_bar(|progress| backup::back_up(folder, file, progress))?;
    report(&copied, &format!("{} has", file.display()))
}

pub(super) fn restore(common: &Common, arguments: &Restore) -> Result<(), Failed> {
    let place = common.place()?;
    let folder = place.folder(RESTORE_OTHERWISE)?;
    let copied = with_bar(|progress| backup::restore(&arguments.file, folder, progress))?;
    let outcome = report(&copied, &format!("{} now has", folder.display()));
    if !SigningSecret::is_in(folder) {
        print(
            "Session tokens and sign-ins become invalid, unless you copy signing.secret from the old data folder before the first start.",
        )?;
    }
    outcome
}

/// Reports the content of a copy. A copy with inconsistent rows exists all the same, but is a
/// failure.
fn report(copied: &Copied, has: &str) -> Result<(), Failed> {
    let content = summary(copied);
    let problems = copied.contradictions.len();
    if problems == 0 {
        return print(format_args!("ok: {has} {content}; checked, no damage"));
    }
    let shown = copied.contradictions.iter().take(MAX_PROBLEMS);
    let mut lines: Vec<String> = shown.map(|problem| damage_line(problem)).collect();
    if problems > MAX_PROBLEMS {
        lines.push(format!(
            "damage: {} more; 'switchboard check' lists all",
            problems - MAX_PROBLEMS
        ));
    }
    lines.push(format!(
        "{has} {content}; the copy is complete, but it has {}: run 'switchboard check' before you rely on it",
        counted(problems, "inconsistency", "inconsistencies")
    ));
    Err(Failed(lines))
}

fn with_bar<T>(copy: impl FnOnce(&mut dyn FnMut(Progress)) -> T) -> T {
    let bar = bar("{bar:40} {percent}% {msg}");
    let copied = copy(&mut |progress| match progress {
        Progress::Copying { pages, total } => {
            bar.set_length(total);
            bar.set_position(pages);
        }
        Progress::Checking => bar.set_message("copied, now checking"),
    });
    bar.finish_and_clear();
    copied
}

/// Summarizes the content of a copy in one line.
fn summary(copied: &Copied) -> String {
    let Contents {
        tenants,
        api_keys,
        end_companies,
        channels,
        knowledge_articles,
        sessions,
        messages,
        attachments,
        newest_session,
        newest_message,
        newest_audit_event,
    } = copied.contents;
    let time = |time: Option<Millis>| time.map_or_else(|| "none".to_owned(), rfc3339);
    format!(
        "{}, {}, {}, {}, {}, {}, {}, {}; newest session {}, newest message {}, newest change {}; {} bytes",
        counted(tenants, "tenant", "tenants"),
        counted(api_keys, "API key", "API keys"),
        counted(end_companies, "company", "companies"),
        counted(channels, "channel", "channels"),
        counted(knowledge_articles, "article", "articles"),
        counted(sessions, "session", "sessions"),
        counted(messages, "message", "messages"),
        counted(attachments, "attachment", "attachments"),
        time(newest_session),
        time(newest_message),
        time(newest_audit_event),
        copied.bytes
    )
}
