//! Environment variables as container and unit files write them: an empty variable is an absent
//! one, and an unknown variable is told.

use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::{Arg, Command};

use super::flags;
use crate::input::json::distance;

/// The beginning of every variable of this program.
const PREFIX: &str = "SWITCHBOARD_";
/// Variables that the program's own tests set.
const OF_TESTS: &str = "SWITCHBOARD_TEST_";

/// Returns the command without the variables that are empty. A compose file writes
/// `${SWITCHBOARD_DATA:-}` for a value that is not set.
pub(super) fn without_empty(command: Command) -> Command {
    command
        .mut_args(without_empty_variable)
        .mut_subcommands(without_empty)
}

fn without_empty_variable(argument: Arg) -> Arg {
    let Some(name) = argument.get_env().map(OsStr::to_owned) else {
        return argument;
    };
    if !env::var_os(&name).is_some_and(|value| is_blank(&value)) {
        return argument;
    }
    let help = argument.get_help().map(ToString::to_string);
    argument
        .env(Resettable::Reset)
        // The help text names the variable of every flag.
        .help(format!(
            "{} [env: {}=]",
            help.unwrap_or_default(),
            name.to_string_lossy()
        ))
}

fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.trim().is_empty())
}

/// The variables that a command and its subcommands read.
fn known(command: &Command) -> BTreeSet<String> {
    let variable = |argument: &Arg| argument.get_env()?.to_str().map(str::to_owned);
    let own = command.get_arguments().filter_map(variable);
    let below = command.get_subcommands().flat_map(known);
    own.chain(below).collect()
}

/// Warns of each variable of the process that no command reads.
pub(super) fn warn_of_unknown(command: &Command) {
    let mut known = known(command);
    known.extend(flags::WITHOUT_FLAG.map(str::to_owned));
    for warning in unknown(&known, env::vars_os()) {
        log::warn!("{warning}");
    }
}

/// A warning for each variable that begins like one of this program, but is none of them.
fn unknown(
    known: &BTreeSet<String>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, value) in variables {
        let name = name.to_string_lossy();
        if !name.starts_with(PREFIX) || known.contains(name.as_ref()) || is_blank(&value) {
            continue;
        }
        if is_of_kubernetes(&name, &value) || name.starts_with(OF_TESTS) {
            continue;
        }
        let letters: Vec<char> = name.chars().take(100).collect();
        let nearest = known
            .iter()
            .min_by_key(|known| distance(&letters, &known.chars().collect::<Vec<_>>()));
        warnings.push(format!(
            "the variable {} is unknown and has no effect; the nearest known one is {}",
            name.escape_debug(),
            nearest.map_or("", String::as_str)
        ));
    }
    warnings.sort();
    warnings
}

/// Whether Kubernetes set the variable: every pod gets the addresses of each service of its
/// namespace, and the service of this server may be named `switchboard`.
fn is_of_kubernetes(name: &str, value: &OsStr) -> bool {
    let is_address = value.to_str().is_some_and(|value| {
        ["tcp://", "udp://", "sctp://"]
            .iter()
            .any(|scheme| value.starts_with(scheme))
    });
    name == "SWITCHBOARD_SERVICE_HOST"
        || name.starts_with("SWITCHBOARD_SERVICE_PORT")
        || name.starts_with("SWITCHBOARD_PORT_")
        || (name == "SWITCHBOARD_PORT" && is_address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(variables: &[(&str, &str)]) -> Vec<String> {
        let known = ["SWITCHBOARD_DATA", "SWITCHBOARD_LISTEN"].map(str::to_owned);
        let variables = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        unknown(&known.into(), variables)
    }

    #[test]
    fn an_unknown_variable_is_told_with_the_nearest_known_one() {
        assert_eq!(
            warnings(&[
                ("SWITCHBOARD_LISTN", "8080"),
                ("SWITCHBOARD_DATA", "/data"),
                ("PATH", "/bin")
            ]),
            [
                "the variable SWITCHBOARD_LISTN is unknown and has no effect; the nearest known one is SWITCHBOARD_LISTEN"
            ]
        );
    }

    #[test]
    fn variables_of_kubernetes_and_empty_ones_are_not_told() {
        let service = [
            ("SWITCHBOARD_SERVICE_HOST", "10.0.0.1"),
            ("SWITCHBOARD_SERVICE_PORT", "8080"),
            ("SWITCHBOARD_SERVICE_PORT_HTTP", "8080"),
            ("SWITCHBOARD_PORT", "tcp://10.0.0.1:8080"),
            ("SWITCHBOARD_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("SWITCHBOARD_ANYTHING", ""),
        ];
        assert_eq!(warnings(&service), Vec::<String>::new());
        assert_eq!(warnings(&[("SWITCHBOARD_PORT", "8080")]).len(), 1);
    }
}
