//! The command line: one file a command; results on stdout, logs and errors on stderr (contract, section 12).

mod backup;
mod check;
mod demo;
pub mod flags;
mod keys;
mod logging;
mod login_link;
mod seed;
mod serve;
mod tenants;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use self::flags::{Common, LogFormat, Serve, ServerFlags};
use crate::error::Error;
use crate::model::caller::Actor;
use crate::model::clock::Clock;
use crate::model::words::CallerKind;
use crate::store::{OpenError, Store};

#[derive(Parser)]
#[command(
    name = "switchboard",
    version,
    about = "Decides which chat agent answers, acting for which MSP and for which client company; keeps the conversation.",
    after_help = "Begin with 'switchboard demo': it serves a small world to try things on and prints commands to paste.\n\
                  To run it for real:\n  \
                  switchboard tenants create --client-id northwind-it --name 'Northwind IT'\n  \
                  switchboard keys create --tenant northwind-it --name relay --platform\n  \
                  switchboard serve\n\
                  Every flag has a variable, shown as [env: …]; a flag beats its variable."
)]
struct CommandLine {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a small demo world on this machine and print commands to paste
    Demo(demo::Arguments),
    /// Run the server
    Serve(Serve),
    /// Take a seed file, or a list of one tenant's companies: all of it, or nothing
    Import(seed::Import),
    /// Write tenants as a seed file on stdout, without keys
    Export(seed::Export),
    /// Make and list tenants (MSPs)
    #[command(subcommand)]
    Tenants(tenants::Tenants),
    /// Make, list, rotate and revoke API keys
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Print a link that signs somebody in to the dashboard: once, within 15 minutes
    LoginLink(login_link::LoginLink),
    /// Write all data as it is now into one new file, also while a server runs, and check it
    Backup(backup::BackUp),
    /// Put such a file into a data folder that has no data and no server
    Restore(backup::Restore),
    /// Look a data folder over: exit 1 for damage; who would be refused is a warning
    Check,
}

/// Why a command failed: one clear line, or one a problem.
struct Failed(Vec<String>);

impl Failed {
    fn saying(line: impl Into<String>) -> Self {
        Self(vec![line.into()])
    }
}

impl From<OpenError> for Failed {
    fn from(error: OpenError) -> Self {
        Self::saying(error.0)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::saying(error.to_string())
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::saying(error.to_string())
    }
}

/// Runs the program. Exit 0: done; 1: failed; 2: wrong usage.
pub fn main() -> ExitCode {
    let line = CommandLine::parse();
    let format = line.common.log_format;
    logging::start(format);
    let is_server = matches!(line.command, Command::Serve(_) | Command::Demo(_));
    let outcome = match line.command {
        Command::Demo(arguments) => demo::run(&line.common, &arguments),
        Command::Serve(arguments) => serve::run(&line.common, &arguments),
        Command::Import(arguments) => seed::import(&line.common, &arguments),
        Command::Export(arguments) => seed::export(&line.common, &arguments),
        Command::Tenants(command) => tenants::run(&line.common, &command),
        Command::Keys(command) => keys::run(&line.common, &command),
        Command::LoginLink(arguments) => login_link::run(&line.common, &arguments),
        Command::Backup(arguments) => backup::back_up(&line.common, &arguments),
        Command::Restore(arguments) => backup::restore(&line.common, &arguments),
        Command::Check => check::run(&line.common),
    };
    logging::finish();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed(lines)) if is_server && format == LogFormat::Json => {
            lines.iter().for_each(|line| logging::write_failure(line));
            ExitCode::FAILURE
        }
        Err(Failed(lines)) => {
            for line in lines {
                // With stderr gone there is nobody left to tell.
                let _ = writeln!(io::stderr(), "{line}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Ends the program as wrong usage does that clap finds by itself: exit 2.
fn wrong_usage(kind: ErrorKind, message: &str) -> ! {
    CommandLine::command().error(kind, message).exit()
}

fn open(common: &Common) -> Result<Store, Failed> {
    Ok(Store::open(&common.folder(), Clock::System)?)
}

/// Prints a result; a closed pipe ends the program's say, not in a panic.
fn print(line: impl fmt::Display) -> Result<(), Failed> {
    writeln!(io::stdout(), "{line}")
        .map_err(|error| Failed::saying(format!("cannot write the result: {error}")))
}

/// A progress bar of this form, where somebody looks.
fn bar(template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Who acts at the command line, in audit events.
fn operator() -> Actor {
    Actor {
        kind: CallerKind::Operator,
        id: "command-line".to_owned(),
        name: None,
    }
}

/// One column of a line: without the characters that would break lines and columns.
fn column(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
