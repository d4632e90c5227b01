//! Draws the table as SVG, for light and dark pages: rates and latencies over the number of
//! connections.

use std::fmt::Write as _;
use std::path::Path;

use crate::Failed;
use crate::measure::Measured;
use crate::report::{Aim, Place, Report};
use crate::rows::{COMPARED, MAX_LATENCY_MS, TARGET_CONNECTIONS};
use crate::what::Benchmark;

const WIDTH: f64 = 1_040.0;
const HEIGHT: f64 = 680.0;
/// The left edges of the two columns, the width of their plots, and the gap before their labels.
const COLUMNS: [f64; 2] = [60.0, 580.0];
const PLOT_WIDTH: f64 = 300.0;
/// How far titles extend to the left of their column, so that the axis numbers have space.
const TITLE_OUTDENT: f64 = 40.0;
const LABEL_GAP: f64 = 10.0;
/// The distance between labels.
const LABEL_HEIGHT: f64 = 14.0;

/// The two columns, each with a title and its lines with their colors. Grey lines are ceilings and
/// variants.
const WRITES: (&str, &[(Benchmark, &str)]) = (
    "Writes, each on disk before its reply",
    &[
        (Benchmark::FixedJson, "grey"),
        (Benchmark::CommitPerRequest, "grey"),
        (Benchmark::Creates, "blue"),
        (Benchmark::WhiteLabel, "violet"),
        (Benchmark::Idempotent, "green"),
        (Benchmark::Appends, "red"),
        (Benchmark::AppendsCommitEach, "grey"),
        (Benchmark::Activities, "amber"),
    ],
);
const READS: (&str, &[(Benchmark, &str)]) = (
    "Reads, and answers as streams",
    &[
        (Benchmark::FixedJson, "grey"),
        (Benchmark::DryRuns, "blue"),
        (Benchmark::ListPages, "violet"),
        (Benchmark::MessagePages, "green"),
        (Benchmark::Streams, "amber"),
        (Benchmark::FirstDelta, "red"),
    ],
);

/// The chart has its own colors and its own background, so that it need not match the page.
const STYLE: &str = "
svg { --ground: #ffffff; --ink: #1f2328; --soft: #59636e; --rule: #d8dee4; --grey: #818b98;
      --blue: #0969da; --violet: #8250df; --green: #1a7f37; --red: #cf222e; --amber: #9a6700; }
@media (prefers-color-scheme: dark) {
svg { --ground: #0d1117; --ink: #f0f6fc; --soft: #9198a1; --rule: #30363d; --grey: #7d8590;
      --blue: #4493f8; --violet: #ab7df8; --green: #3fb950; --red: #f85149; --amber: #d29922; }
}
text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.title { font-size: 14px; font-weight: 600; fill: var(--ink); }
.ground { fill: var(--ground); stroke: var(--rule); }
.rule { stroke: var(--rule); }
.aim { stroke: var(--ink); stroke-width: 2; }
.aimed { fill: var(--ink); stroke: var(--ground); stroke-width: 3px; paint-order: stroke; }
.alone { stroke: var(--grey); stroke-dasharray: 6 3; }
.leader { fill: none; stroke: var(--rule); }
.line { fill: none; stroke-width: 1.8; }
.big { stroke-dasharray: 2 3; }
.dot { fill: var(--ground); }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
";

/// The width of the unit's name inside a plot.
const UNIT_WIDTH: f64 = 66.0;

/// Reads a value of a cell.
type Reading = fn(&Measured) -> f64;

/// A plot.
struct Panel<'a> {
    report: &'a Report,
    lines: &'a [(Benchmark, &'a str)],
    reading: Reading,
    left: f64,
    top: f64,
    height: f64,
    connections: Vec<usize>,
    /// The decades of the plot, as powers of ten.
    decades: (i32, i32),
}

/// Draws the report.
pub fn draw(report: &Report, path: &Path) -> Result<(), Failed> {
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Rates and latencies over connections">
<style>{STYLE}</style>
<rect class="ground" x="0.5" y="0.5" width="{}" height="{}" rx="8"/>
"#,
        WIDTH - 1.0,
        HEIGHT - 1.0
    );
    for (left, (title, lines)) in COLUMNS.into_iter().zip([WRITES, READS]) {
        text(&mut svg, "title", left - TITLE_OUTDENT, 30.0, title)?;
        let is_writes = title == WRITES.0;
        let panel =
            |reading: Reading, top, height| Panel::new(report, lines, reading, left, top, height);
        if let Some(rates) = panel(|cell| cell.per_second, 76.0, 320.0) {
            rates.draw(&mut svg, "requests per second")?;
            rates.draw_aimed_rates(&mut svg)?;
            if is_writes {
                rates.draw_sqlite(&mut svg)?;
            }
        }
        if let Some(waits) = panel(|cell| cell.p99_ms, 455.0, 145.0) {
            waits.draw(&mut svg, "p99, ms")?;
            if is_writes {
                let label = format!("{}: at most {MAX_LATENCY_MS} ms", Benchmark::Creates);
                waits.draw_aim(&mut svg, MAX_LATENCY_MS, &label)?;
            }
        }
    }
    let about = format!(
        "Over concurrent connections, log scales; {} cores, shared with the client; {} s per cell; all features on.",
        report.cores, report.seconds_per_cell
    );
    let key = "Grey: ceilings and variants. Dotted: a file with 1,000,000 sessions and 5,000,000 messages. Bars: targets.";
    let left = COLUMNS[0] - TITLE_OUTDENT;
    text(&mut svg, "", left, HEIGHT - 32.0, &about)?;
    text(&mut svg, "", left, HEIGHT - 18.0, key)?;
    svg.push_str("</svg>\n");
    std::fs::write(path, svg)?;
    Ok(())
}

impl<'a> Panel<'a> {
    /// Makes a panel for these lines, if any of them was measured.
    fn new(
        report: &'a Report,
        lines: &'a [(Benchmark, &'a str)],
        reading: Reading,
        left: f64,
        top: f64,
        height: f64,
    ) -> Option<Self> {
        let of_lines = |what: &str| lines.iter().any(|(line, _)| line.to_string() == what);
        let cells = report.cells.iter().filter(|cell| of_lines(&cell.what));
        let mut connections: Vec<usize> = cells.clone().map(|cell| cell.connections).collect();
        connections.sort_unstable();
        connections.dedup();
        let values: Vec<f64> = cells
            .map(|cell| reading(&cell.measured))
            .filter(|value| *value > 0.0 && value.is_finite())
            .collect();
        let least = values.iter().copied().reduce(f64::min)?;
        let most = values.iter().copied().reduce(f64::max)?;
        let decades = (least.log10().floor() as i32, most.log10().ceil() as i32);
        Some(Self {
            report,
            lines,
            reading,
            left,
            top,
            height,
            connections,
            decades: (decades.0, decades.1.max(decades.0 + 1)),
        })
    }

    fn x(&self, connections: usize) -> f64 {
        let (Some(first), Some(last)) = (self.connections.first(), self.connections.last()) else {
            return self.left;
        };
        let log = |connections: usize| (connections as f64).log2();
        let span = (log(*last) - log(*first)).max(1.0);
        self.left + PLOT_WIDTH * (log(connections) - log(*first)) / span
    }

    fn y(&self, value: f64) -> f64 {
        let (lowest, highest) = self.decades;
        let part = (value.log10() - f64::from(lowest)) / f64::from(highest - lowest);
        self.top + self.height * (1.0 - part)
    }

    fn draw(&self, svg: &mut String, unit: &str) -> Result<(), Failed> {
        let (right, bottom) = (self.left + PLOT_WIDTH, self.top + self.height);
        text(svg, "", self.left - TITLE_OUTDENT, self.top - 20.0, unit)?;
        for decade in self.decades.0..=self.decades.1 {
            let value = 10_f64.powi(decade);
            let y = self.y(value);
            rule(svg, "rule", (self.left, y), (right, y))?;
            text(svg, "end", self.left - 6.0, y + 4.0, &grouped(value))?;
        }
        for connections in &self.connections {
            let label = connections.to_string();
            text(svg, "middle", self.x(*connections), bottom + 16.0, &label)?;
        }
        let mut labels = Vec::new();
        for (what, color) in self.lines {
            for (size, class) in [(Place::Big, "line big"), (Place::Small, "line")] {
                let points = self.points(*what, size);
                let Some((x, y)) = points.last() else {
                    continue;
                };
                let path: Vec<String> = points
                    .iter()
                    .map(|(x, y)| format!("{x:.1},{y:.1}"))
                    .collect();
                writeln!(
                    svg,
                    r#"<polyline class="{class}" stroke="var(--{color})" points="{}"/>"#,
                    path.join(" ")
                )?;
                if size == Place::Small {
                    for (x, y) in &points {
                        writeln!(
                            svg,
                            r#"<circle class="dot" cx="{x:.1}" cy="{y:.1}" r="2.6" stroke="var(--{color})" stroke-width="1.6"/>"#
                        )?;
                    }
                    labels.push((*x, *y, *what, *color));
                }
            }
        }
        draw_labels(svg, labels, bottom)
    }

    fn points(&self, what: Benchmark, size: Place) -> Vec<(f64, f64)> {
        let value = |connections: usize| {
            let cell = self.report.cell(what, size, connections)?;
            let value = (self.reading)(cell);
            (value > 0.0).then(|| (self.x(connections), self.y(value)))
        };
        self.connections
            .iter()
            .filter_map(|connections| value(*connections))
            .collect()
    }

    /// Marks the target of each rate that is a multiple of a measured rate.
    fn draw_aimed_rates(&self, svg: &mut String) -> Result<(), Failed> {
        for (what, with, aim) in COMPARED {
            let Some(Aim::AtLeast(times)) = aim else {
                continue;
            };
            let is_here = self.lines.iter().any(|(line, _)| *line == what);
            if let Some(cell) = self.report.cell(with, Place::Small, TARGET_CONNECTIONS)
                && is_here
            {
                let label = format!("{what}: {times} × {with}");
                self.draw_aim(svg, times * cell.per_second, &label)?;
            }
        }
        Ok(())
    }

    /// Marks a target.
    fn draw_aim(&self, svg: &mut String, value: f64, label: &str) -> Result<(), Failed> {
        if !self.connections.contains(&TARGET_CONNECTIONS) {
            return Ok(());
        }
        let (x, y) = (self.x(TARGET_CONNECTIONS), self.y(value));
        rule(svg, "aim", (x - 9.0, y), (x + 9.0, y))?;
        text(svg, "end aimed", x - 13.0, y + 4.0, label)
    }

    /// Draws the rate of SQLite alone as a horizontal line, because it has no number of
    /// connections.
    fn draw_sqlite(&self, svg: &mut String) -> Result<(), Failed> {
        let Some(rows) = self.report.sqlite_rows_per_second else {
            return Ok(());
        };
        let y = self.y(rows);
        let right = self.left + PLOT_WIDTH;
        // The line begins after the unit, which is at the left above the highest decade.
        rule(svg, "alone", (self.left + UNIT_WIDTH, y), (right, y))?;
        let label = format!("{}, rows in groups of 64", Benchmark::Sqlite);
        text(svg, "end", right, y - 5.0, &label)
    }
}

/// Writes the lines' names after their ends, without overlaps.
fn draw_labels(
    svg: &mut String,
    mut labels: Vec<(f64, f64, Benchmark, &str)>,
    bottom: f64,
) -> Result<(), Failed> {
    labels.sort_by(|one, other| one.1.total_cmp(&other.1));
    let mut positions: Vec<f64> = Vec::with_capacity(labels.len());
    for (_, y, ..) in &labels {
        let free = positions.last().map_or(*y, |above| above + LABEL_HEIGHT);
        positions.push(y.max(free));
    }
    // Labels that were pushed below the plot move up again.
    let mut lowest = bottom;
    for position in positions.iter_mut().rev() {
        *position = position.min(lowest);
        lowest = *position - LABEL_HEIGHT;
    }
    for ((x, y, what, color), position) in labels.into_iter().zip(positions) {
        let begins = x + LABEL_GAP;
        writeln!(
            svg,
            r#"<path class="leader" d="M{:.1} {y:.1}L{begins:.1} {position:.1}"/>
<text x="{:.1}" y="{:.1}" style="fill: var(--{color})">{what}</text>"#,
            x + 4.0,
            begins + 3.0,
            position + 4.0
        )?;
    }
    Ok(())
}

fn rule(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) -> Result<(), Failed> {
    writeln!(
        svg,
        r#"<line class="{class}" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}"/>"#,
        from.0, from.1, to.0, to.1
    )?;
    Ok(())
}

fn text(svg: &mut String, class: &str, x: f64, y: f64, label: &str) -> Result<(), Failed> {
    writeln!(
        svg,
        r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{label}</text>"#
    )?;
    Ok(())
}

/// Formats a power of ten, with commas.
fn grouped(value: f64) -> String {
    if value < 1_000.0 {
        return value.to_string();
    }
    let thousands = grouped(value / 1_000.0);
    format!("{thousands},000")
}
