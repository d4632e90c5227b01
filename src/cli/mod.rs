//! The command line (contract, section 12): one file per command. Results go to stdout, the log
//! and errors to stderr.

mod backup;
mod check;
mod completions;
mod copy;
mod database;
mod demo;
mod environment;
pub mod flags;
mod health;
mod keys;
pub mod listen;
mod logging;
mod login_link;
mod open_files;
mod seed;
mod serve;
mod teams;
mod tenants;
mod users;
mod variables;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use self::database::Place;
use self::flags::{Common, LogFormat, Serve, ServerFlags};
use crate::error::Error;
use crate::model::caller::Actor;
use crate::model::words::CallerKind;
use crate::store::sqlite::library_version;
use crate::store::{OpenError, Store};

/// The version, the commit and the SQLite library.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} (commit {}, SQLite {})",
        env!("CARGO_PKG_VERSION"),
        env!("BUILT_COMMIT"),
        library_version()
    )
});

#[derive(Parser)]
#[command(
    name = "switchboard",
    version = VERSION.as_str(),
    about = "Decides which agent answers a chat, for which MSP and which client company, and stores the conversation.",
    after_help = "To try it, run 'switchboard demo': it serves example data and prints commands to paste.\n\
                  To set up a real server:\n  \
                  switchboard tenants create --client-id northwind-it --name 'Northwind IT'\n  \
                  switchboard keys create --tenant northwind-it --name relay --platform\n  \
                  switchboard serve\n\
                  Every flag has an environment variable, shown as [env: …]. A flag overrides its variable."
)]
struct CommandLine {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve example data on this machine and print commands to paste
    Demo(demo::Arguments),
    /// Run the server
    Serve(Serve),
    /// Import a seed file, or a CSV list of one tenant's companies: the whole file or nothing
    Import(seed::Import),
    /// Write tenants to stdout as a seed file, without their API keys
    Export(seed::Export),
    /// Create, list and delete tenants (MSPs)
    Tenants(tenants::Tenants),
    /// Create, list, rotate and revoke API keys
    #[command(subcommand)]
    Keys(keys::Keys),
    /// List a tenant's users, and change their roles
    #[command(subcommand)]
    Users(users::Users),
    /// Check the Teams bots
    #[command(subcommand)]
    Teams(teams::Teams),
    /// Print a link that signs a person in to the dashboard; it works once, for 15 minutes
    LoginLink(login_link::LoginLink),
    /// Write all data to one new file and check it; a server may be running
    Backup(backup::BackUp),
    /// Restore a backup into a data folder that has no data and no running server
    Restore(backup::Restore),
    /// Copy all data from a data folder to a PostgreSQL database, or back; stop the servers first
    Copy(copy::Arguments),
    /// Ask a server whether it can work: exit code 0 if it can, for the health check of a container
    Health(health::Health),
    /// Print or change the environment that the data folder remembers
    Environment(environment::Arguments),
    /// Print the completions of a shell, such as bash; see the shell for where they belong
    Completions(completions::Completions),
    /// Write the man pages into a folder
    #[command(hide = true)]
    Man(completions::Man),
    /// Check the data: exit code 1 for damage, warnings for organizations that cannot chat yet
    Check,
}

/// The reasons why a command failed, one line each.
struct Failed(Vec<String>);

impl Failed {
    fn saying(line: impl Into<String>) -> Self {
        Self(vec![line.into()])
    }

    /// The failure of a command that needs data in its folder.
    fn no_data(place: &Place) -> Self {
        Self::saying(format!(
            "there is no data in {place}; choose another folder with --data"
        ))
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

/// Runs the program. The exit code is 0 for success, 1 for a failure and 2 for wrong usage.
pub fn main() -> ExitCode {
    let matches = variables::without_empty(CommandLine::command()).get_matches();
    let line = CommandLine::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let format = line.common.log_format;
    logging::start(format);
    variables::warn_of_unknown(&CommandLine::command());
    let is_server = matches!(line.command, Command::Serve(_) | Command::Demo(_));
    let outcome = match line.command {
        Command::Demo(arguments) => demo::run(&line.common, &arguments),
        Command::Serve(arguments) => serve::run(&line.common, &arguments),
        Command::Import(arguments) => seed::import(&line.common, &arguments),
        Command::Export(arguments) => seed::export(&line.common, &arguments),
        Command::Tenants(command) => tenants::run(&line.common, &command),
        Command::Keys(command) => keys::run(&line.common, &command),
        Command::Users(command) => users::run(&line.common, &command),
        Command::Teams(command) => teams::run(&command),
        Command::LoginLink(arguments) => login_link::run(&line.common, &arguments),
        Command::Backup(arguments) => backup::back_up(&line.common, &arguments),
        Command::Restore(arguments) => backup::restore(&line.common, &arguments),
        Command::Copy(arguments) => copy::run(&arguments),
        Command::Health(arguments) => health::run(&arguments),
        Command::Environment(arguments) => environment::run(&line.common, &arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => completions::write_man_pages(&arguments),
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
                // Without stderr, nobody can read the reason.
                let _ = writeln!(io::stderr(), "{line}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Exits with code 2 in the format of clap's own usage errors.
fn wrong_usage(kind: ErrorKind, message: &str) -> ! {
    CommandLine::command().error(kind, message).exit()
}

/// Opens the data for a command that only reads. A folder without data is not created.
fn open(common: &Common) -> Result<Store, Failed> {
    let place = common.place()?;
    if !place.exists() {
        return Err(Failed::no_data(&place));
    }
    open_or_create(common)
}

/// Opens the data for a command that changes it.
fn open_to_change(common: &Common) -> Result<Store, Failed> {
    let store = open(common)?;
    environment::remember_given(&store, common)?;
    Ok(store)
}

/// Opens the data, and creates a folder that is missing.
fn open_or_create(common: &Common) -> Result<Store, Failed> {
    let store = common.place()?.open()?;
    environment::of(&store, common)?;
    Ok(store)
}

/// Prints a line to stdout. A closed pipe is an error and not a panic.
fn print(line: impl fmt::Display) -> Result<(), Failed> {
    writeln!(io::stdout(), "{line}")
        .map_err(|error| Failed::saying(format!("cannot write the result: {error}")))
}

/// Makes a progress bar, which is hidden unless stderr is a terminal.
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

/// The actor of the command line's audit events.
fn operator() -> Actor {
    Actor {
        kind: CallerKind::Operator,
        id: "command-line".to_owned(),
        name: None,
    }
}

/// Replaces the characters of a column that would break the line or its columns.
fn column(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
