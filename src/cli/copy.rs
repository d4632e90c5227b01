//! `copy`: moves all data from one engine to the other (contract, section 12).

use std::path::{Path, PathBuf};

use clap::Args;
use clap::error::ErrorKind;

use super::{Failed, bar, print, wrong_usage};
use crate::auth::signing::SigningSecret;
use crate::store::copy::{Copied, Copy, Location, Progress};
use crate::store::postgres::Target;
use crate::text::counted;

#[derive(Args)]
pub(super) struct Arguments {
    /// What to copy: sqlite:DIR for a data folder, or postgres://USER@HOST/DATABASE; no server may
    /// run on it
    #[arg(
        long,
        env = "SWITCHBOARD_COPY_FROM",
        value_name = "PLACE",
        hide_env_values = true
    )]
    from: String,

    /// Where to copy to, in a form of --from: a new folder, or an empty database
    #[arg(
        long,
        env = "SWITCHBOARD_COPY_TO",
        value_name = "PLACE",
        hide_env_values = true
    )]
    to: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failed> {
    let from = location("--from", &arguments.from)?;
    let to = location("--to", &arguments.to)?;
    refuse_same(&from, &to)?;
    if let Location::Folder(folder) = &to
        && SigningSecret::is_in(folder)
    {
        return Err(Failed::saying(format!(
            "{to} is not empty: it has a signing.secret; copy into a new folder or database"
        )));
    }
    let copy = Copy::begin(&from, &to)?;
    let copied = with_bar(|report| copy.run(report))?;
    copy_secret(&copy, &from, &to).map_err(|error| copy.unfinished(&error))?;
    copy.finish()?;
    report(&copied, &from, &to)
}

/// Parses the value of a flag. No message repeats the value, which can have a password.
fn location(flag: &str, text: &str) -> Result<Location, Failed> {
    if let Some(folder) = text
        .strip_prefix("sqlite:")
        .filter(|folder| !folder.is_empty())
    {
        return Ok(Location::Folder(PathBuf::from(folder)));
    }
    if !Target::is_url(text) {
        wrong_usage(
            ErrorKind::ValueValidation,
            &format!("{flag} must be sqlite:DIR or postgres://USER@HOST/DATABASE"),
        );
    }
    let target = Target::parse(text);
    let target = target.map_err(|error| Failed::saying(error.0.replacen("--database", flag, 1)))?;
    Ok(Location::Server(Box::new(target)))
}

fn refuse_same(from: &Location, to: &Location) -> Result<(), Failed> {
    let is_same = match (from, to) {
        (Location::Folder(from), Location::Folder(to)) => is_same_folder(from, to),
        _ => false,
    };
    match is_same {
        true => Err(Failed::saying("--from and --to are the same folder")),
        false => Ok(()),
    }
}

fn is_same_folder(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Copies the signing secret between a folder's file and a database's table, so that tokens and
/// links stay valid.
fn copy_secret(copy: &Copy, from: &Location, to: &Location) -> Result<(), String> {
    let secret = match from {
        Location::Folder(folder) => SigningSecret::bytes_in(folder)?,
        Location::Server(_) => copy.secret().map_err(|error| error.0)?,
    };
    let Some(secret) = secret else {
        return Ok(());
    };
    match to {
        Location::Folder(folder) => SigningSecret::create_in(folder, &secret),
        Location::Server(_) => copy.set_secret(&secret).map_err(|error| error.0),
    }
}

fn with_bar<T>(copy: impl FnOnce(&mut dyn FnMut(Progress)) -> T) -> T {
    let bar = bar("{bar:40} {percent}% {msg}");
    let copied = copy(&mut |progress| {
        let (message, done, total) = match progress {
            Progress::Copying { done, total } => ("rows copied", done, total),
            Progress::Comparing { done, total } => ("rows compared", done, total),
            Progress::Indexing { done, total } => ("texts indexed for search", done, total),
        };
        bar.set_length(total);
        bar.set_position(done);
        bar.set_message(message);
    });
    bar.finish_and_clear();
    copied
}

fn report(copied: &Copied, from: &Location, to: &Location) -> Result<(), Failed> {
    if copied.changed_texts > 0 {
        print(format_args!(
            "warning: {} the character U+0000, which PostgreSQL cannot store; the copy has U+FFFD in its place",
            counted(copied.changed_texts, "text has", "texts have")
        ))?;
    }
    print(format_args!(
        "ok: copied {} of {} from {from} to {to}; counts, checksums and references agree",
        counted(copied.rows, "row", "rows"),
        counted(copied.tables, "table", "tables")
    ))
}
