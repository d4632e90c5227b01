//! The results of a run: a table for people, and JSON to compare runs.

use std::fmt::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use crate::Failed;
use crate::measure::Measured;
use crate::what::Benchmark;

/// Where a server has its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A file with just enough sessions to fill every page.
    Small,
    /// A file with a million sessions.
    Big,
    /// A PostgreSQL database that one node serves.
    OneNode,
    /// A PostgreSQL database that two nodes serve, each half of the clients.
    TwoNodes,
}

/// A line of the table.
#[derive(Serialize)]
pub struct Cell {
    pub what: String,
    pub file: Place,
    pub connections: usize,
    #[serde(flatten)]
    pub measured: Measured,
}

/// The target of a figure.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    AtLeast(f64),
    AtMost(f64),
}

impl Aim {
    fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(least) => figure >= least,
            Self::AtMost(most) => figure <= most,
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(formatter, "at least {least}"),
            Self::AtMost(most) => write!(formatter, "at most {most}"),
        }
    }
}

/// A figure outside the table, whose name includes its unit, or a ratio of two figures.
#[derive(Serialize)]
pub struct Figure {
    pub what: String,
    pub figure: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aim: Option<Aim>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_met: Option<bool>,
}

/// The results of a run.
#[derive(Serialize)]
pub struct Report {
    pub version: &'static str,
    pub cores: usize,
    pub seconds_per_cell: f64,
    pub cells: Vec<Cell>,
    /// The rows per second of SQLite alone, in durable groups of 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqlite_rows_per_second: Option<f64>,
    pub figures: Vec<Figure>,
    /// Wrong or lost data, and parts that did not finish. Any failure fails the run.
    pub failures: Vec<String>,
}

impl Report {
    pub fn new(seconds_per_cell: f64) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            seconds_per_cell,
            cells: Vec::new(),
            sqlite_rows_per_second: None,
            figures: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Adds a cell, and prints it on stderr.
    pub fn add(
        &mut self,
        what: impl ToString,
        file: Place,
        connections: usize,
        measured: Measured,
    ) {
        let cell = Cell {
            what: what.to_string(),
            file,
            connections,
            measured,
        };
        let Measured {
            per_second,
            p50_ms,
            p99_ms,
            errors,
            first_error,
            ..
        } = &cell.measured;
        let what = cell.label();
        eprintln!(
            "{what} at {connections}: {per_second:.0}/s, p50 {p50_ms:.3} ms, p99 {p99_ms:.3} ms"
        );
        if let Some(reply) = first_error {
            eprintln!("{what} at {connections}: {errors} ERRORS, first: {reply}");
        }
        self.cells.push(cell);
    }

    /// Adds a figure, and prints it on stderr.
    pub fn figure(&mut self, what: impl Into<String>, figure: f64, aim: Option<Aim>) {
        let what = what.into();
        eprintln!("{what}: {figure:.2}");
        self.figures.push(Figure {
            what,
            figure,
            aim,
            is_met: aim.map(|aim| aim.is_met(figure)),
        });
    }

    /// Adds a figure whose target does not depend on other load of the machine. A miss fails the
    /// run.
    pub fn demand(&mut self, what: impl Into<String>, figure: f64, aim: Aim) {
        let what = what.into();
        if !aim.is_met(figure) {
            self.fail(format!("{what}: {figure:.2}, but the target is {aim}"));
        }
        self.figure(what, figure, Some(aim));
    }

    /// Adds a failure, and prints it on stderr.
    pub fn fail(&mut self, what: String) {
        eprintln!("FAILED: {what}");
        self.failures.push(what);
    }

    /// Adds a failure if a part could not be measured completely, so that the run continues.
    pub fn keep(&mut self, what: Benchmark, measured: Result<(), Failed>) {
        if let Err(error) = measured {
            self.fail(format!("{what}: {error}"));
        }
    }

    pub fn errors(&self) -> usize {
        self.cells.iter().map(|cell| cell.measured.errors).sum()
    }

    pub fn cell(&self, what: Benchmark, file: Place, connections: usize) -> Option<&Measured> {
        let what = what.to_string();
        self.cells
            .iter()
            .find(|cell| cell.what == what && cell.file == file && cell.connections == connections)
            .map(|cell| &cell.measured)
    }

    pub fn write(&self, path: &Path) -> Result<(), Failed> {
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        std::fs::write(path, json)?;
        Ok(())
    }

    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |line: fmt::Arguments<'_>| {
            let _ = writeln!(text, "{line}");
        };
        let has_database = self
            .cells
            .iter()
            .any(|cell| cell.measured.database_cpu_us.is_some());
        let us = |us: Option<f64>| us.map_or("-".to_owned(), |us| format!("{us:.1}"));
        let title = if has_database { " database CPU us" } else { "" };
        line(format_args!(
            "{:<24} {:>11} {:>10} {:>9} {:>9} {:>6} {:>13}{title}",
            "what", "connections", "requests/s", "p50 ms", "p99 ms", "errors", "server CPU us"
        ));
        if let Some(rows) = self.sqlite_rows_per_second {
            let what = format!("{}, rows", Benchmark::Sqlite);
            line(format_args!("{what:<24} {:>11} {rows:>10.0}", 1));
        }
        let mut cells: Vec<&Cell> = self.cells.iter().collect();
        let first = |like: &Cell| self.cells.iter().position(|cell| cell.what == like.what);
        cells.sort_by_key(|cell| (first(cell), cell.file as u8, cell.connections));
        for cell in cells {
            let measured = &cell.measured;
            let database = match has_database {
                true => format!(" {:>15}", us(measured.database_cpu_us)),
                false => String::new(),
            };
            line(format_args!(
                "{:<24} {:>11} {:>10.0} {:>9.3} {:>9.3} {:>6} {:>13}{database}",
                cell.label(),
                cell.connections,
                measured.per_second,
                measured.p50_ms,
                measured.p99_ms,
                measured.errors,
                us(measured.server_cpu_us),
            ));
        }
        line(format_args!(""));
        for Figure {
            what,
            figure,
            aim,
            is_met,
        } in &self.figures
        {
            let said = match (aim, is_met) {
                (Some(aim), Some(true)) => format!("  ({aim}: met)"),
                (Some(aim), _) => format!("  ({aim}: MISSED)"),
                (None, _) => String::new(),
            };
            line(format_args!("{what:<64} {figure:>10.2}{said}"));
        }
        text
    }
}

impl Cell {
    fn label(&self) -> String {
        match self.file {
            Place::Small => self.what.clone(),
            Place::Big => format!("{}, big", self.what),
            Place::OneNode => format!("{}, PG", self.what),
            Place::TwoNodes => format!("{}, PG, 2 nodes", self.what),
        }
    }
}
