//! `completions` and `man`: what a shell and `man` need to know of the command line.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{CommandLine, Failed};

#[derive(Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

#[derive(Args)]
pub(super) struct Man {
    /// The folder to write switchboard.1 and a page for each command into
    folder: PathBuf,
}

/// Prints the completions of a shell.
pub(super) fn run(arguments: &Completions) -> Result<(), Failed> {
    let mut script = Vec::new();
    let mut command = CommandLine::command();
    clap_complete::generate(arguments.shell, &mut command, "switchboard", &mut script);
    io::stdout()
        .write_all(&script)
        .map_err(|error| Failed::saying(format!("cannot write the result: {error}")))
}

/// Writes a man page for the program, and one for each command.
pub(super) fn write_man_pages(arguments: &Man) -> Result<(), Failed> {
    let folder = &arguments.folder;
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(CommandLine::command(), folder))
        .map_err(|error| Failed::saying(format!("cannot write into {}: {error}", folder.display())))
}
