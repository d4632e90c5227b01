//! `backup` and `restore`: one file out of a data folder, also of a running server, and back into an empty one (contract, section 12).

use std::path::PathBuf;

use clap::Args;

use super::check::wrong_line;
use super::{Common, Failed, bar, print};
use crate::auth::signing::SigningSecret;
use crate::model::clock::{Millis, rfc3339};
use crate::store::contents::Contents;
use crate::store::sqlite::backup::{self, Copied, Progress};

/// Findings of one copy that are told; 'check' tells all.
const TOLD: usize = 20;

#[derive(Args)]
pub(super) struct BackUp {
    /// The file to write; it must not be there yet
    file: PathBuf,
}

#[derive(Args)]
pub(super) struct Restore {
    /// A file that 'backup' wrote, or any whole copy of a database
    file: PathBuf,
}

pub(super) fn back_up(common: &Common, arguments: &BackUp) -> Result<(), Failed> {
    let file = &arguments.file;
    let copied = with_bar(|tell| backup::back_up(&common.folder(), file, tell))?;
    tell(&copied, &format!("{} has", file.display()))
}

pub(super) fn restore(common: &Common, arguments: &Restore) -> Result<(), Failed> {
    let folder = common.folder();
    let copied = with_bar(|tell| backup::restore(&arguments.file, &folder, tell))?;
    let told = tell(&copied, &format!("{} now has", folder.display()));
    if !SigningSecret::is_in(&folder) {
        print(
            "Tokens of sessions and of sign-ins end, unless signing.secret of the old data folder is put there before the first start.",
        )?;
    }
    told
}

/// Tells what a copy holds; one that contradicts itself is there too, and is told as a failure.
fn tell(copied: &Copied, has: &str) -> Result<(), Failed> {
    let holds = said(copied);
    let found = copied.contradictions.len();
    if found == 0 {
        return print(format_args!("ok: {has} {holds}, and was checked"));
    }
    let told = copied.contradictions.iter().take(TOLD);
    let mut lines: Vec<String> = told.map(|what| wrong_line(what)).collect();
    if found > TOLD {
        lines.push(format!("damage: {} more", found - TOLD));
    }
    lines.push(format!(
        "{has} {holds}; it was written and is whole, but 'check' finds {found} things wrong in it"
    ));
    Err(Failed(lines))
}

fn with_bar<T>(copy: impl FnOnce(&mut dyn FnMut(Progress)) -> T) -> T {
    let bar = bar("{bar:40} {percent} % {msg}");
    let copied = copy(&mut |progress| match progress {
        Progress::Copying { pages, total } => {
            bar.set_length(total);
            bar.set_position(pages);
        }
        Progress::Checking => bar.set_message("copied; checking"),
    });
    bar.finish_and_clear();
    copied
}

/// What a copy holds, in one line.
fn said(copied: &Copied) -> String {
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
        "{tenants} tenants, {api_keys} keys, {end_companies} companies, {channels} channels, {knowledge_articles} articles, \
         {sessions} sessions, {messages} messages, {attachments} files; newest session {}, newest message {}, newest change {}; {} bytes",
        time(newest_session),
        time(newest_message),
        time(newest_audit_event),
        copied.bytes
    )
}
