//! What was measured: as a table to read, and as JSON to compare.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::Failed;
use crate::client::Measured;

/// One line of the table.
#[derive(Serialize)]
pub struct Cell {
    pub what: &'static str,
    pub connections: usize,
    #[serde(flatten)]
    pub measured: Measured,
}

/// One figure over another.
#[derive(Serialize)]
pub struct Ratio {
    pub what: String,
    pub ratio: f64,
    /// What is aimed at, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aim: Option<&'static str>,
}

/// A figure of its own, its unit in its name.
#[derive(Serialize)]
pub struct Figure {
    pub what: String,
    pub figure: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aim: Option<&'static str>,
}

/// A run.
#[derive(Serialize)]
pub struct Report {
    pub version: &'static str,
    pub cores: usize,
    pub seconds_per_cell: f64,
    pub cells: Vec<Cell>,
    /// Rows a second of SQLite alone, in durable groups of 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqlite_rows_per_second: Option<f64>,
    pub ratios: Vec<Ratio>,
    pub figures: Vec<Figure>,
    /// What a client held that was not so, or lost: the run has failed.
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
            ratios: Vec::new(),
            figures: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Keeps a cell, and says on stderr how it went.
    pub fn add(&mut self, what: &'static str, connections: usize, measured: Measured) {
        eprintln!(
            "{what} at {connections}: {:.0}/s, p50 {:.3} ms, p99 {:.3} ms",
            measured.per_second, measured.p50_ms, measured.p99_ms
        );
        if let Some(reply) = &measured.first_error {
            eprintln!(
                "{what} at {connections}: {} ERRORS, first: {reply}",
                measured.errors
            );
        }
        self.cells.push(Cell {
            what,
            connections,
            measured,
        });
    }

    /// Keeps a figure, and says it on stderr.
    pub fn figure(&mut self, what: impl Into<String>, figure: f64, aim: Option<&'static str>) {
        let what = what.into();
        eprintln!("{what}: {figure:.2}");
        self.figures.push(Figure { what, figure, aim });
    }

    /// Keeps what went wrong, and says it on stderr.
    pub fn fail(&mut self, what: String) {
        eprintln!("FAILED: {what}");
        self.failures.push(what);
    }

    pub fn errors(&self) -> usize {
        self.cells.iter().map(|cell| cell.measured.errors).sum()
    }

    pub fn cell(&self, what: &str, connections: usize) -> Option<&Measured> {
        self.cells
            .iter()
            .find(|cell| cell.what == what && cell.connections == connections)
            .map(|cell| &cell.measured)
    }

    /// Compares two rates at each number of connections, where both were measured.
    pub fn compare(
        &mut self,
        what: &str,
        with: &str,
        connections: &[usize],
        aim: Option<&'static str>,
    ) {
        for connections in connections {
            if let Some(one) = self.cell(what, *connections)
                && let Some(other) = self.cell(with, *connections)
            {
                self.ratios.push(Ratio {
                    what: format!("{what} / {with} at {connections}"),
                    ratio: one.per_second / other.per_second,
                    aim,
                });
            }
        }
    }

    /// Compares the rate of creates with that of SQLite alone.
    pub fn compare_with_sqlite(&mut self, what: &str, connections: &[usize]) {
        for connections in connections {
            if let Some(one) = self.cell(what, *connections)
                && let Some(rows) = self.sqlite_rows_per_second
            {
                self.ratios.push(Ratio {
                    what: format!("{what} / SQLite alone at {connections}"),
                    ratio: one.per_second / rows,
                    aim: None,
                });
            }
        }
    }

    pub fn write(&self, path: &Path) -> Result<(), Failed> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        std::fs::write(path, json)?;
        Ok(())
    }

    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |line: std::fmt::Arguments<'_>| {
            let _ = writeln!(text, "{line}");
        };
        line(format_args!(
            "{:<20} {:>11} {:>10} {:>9} {:>9} {:>6} {:>13}",
            "what", "connections", "requests/s", "p50 ms", "p99 ms", "errors", "server CPU us"
        ));
        let mut cells: Vec<&Cell> = self.cells.iter().collect();
        let first = |what| self.cells.iter().position(|cell| cell.what == what);
        cells.sort_by_key(|cell| (first(cell.what), cell.connections));
        for cell in cells {
            line(format_args!(
                "{:<20} {:>11} {:>10.0} {:>9.3} {:>9.3} {:>6} {:>13}",
                cell.what,
                cell.connections,
                cell.measured.per_second,
                cell.measured.p50_ms,
                cell.measured.p99_ms,
                cell.measured.errors,
                cell.measured
                    .server_cpu_us
                    .map_or("-".to_owned(), |us| format!("{us:.1}")),
            ));
        }
        if let Some(rows) = self.sqlite_rows_per_second {
            line(format_args!(
                "{:<20} {:>11} {rows:>10.0}",
                "SQLite alone, rows", 1
            ));
        }
        line(format_args!(""));
        let ratios = self
            .ratios
            .iter()
            .map(|ratio| (&ratio.what, ratio.ratio, ratio.aim));
        let figures = self
            .figures
            .iter()
            .map(|figure| (&figure.what, figure.figure, figure.aim));
        for (what, figure, aim) in ratios.chain(figures) {
            let aim = aim.map_or(String::new(), |aim| format!("  (aim: {aim})"));
            line(format_args!("{what:<48} {figure:>9.2}{aim}"));
        }
        text
    }
}
