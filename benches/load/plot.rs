//! Draws the table: rates and waiting times over the number of connections, as SVG that reads on light and on dark pages.

use std::fmt::Write as _;
use std::path::Path;

use crate::Failed;
use crate::measure::Measured;
use crate::report::{Aim, Report, Size};
use crate::rows::{AIMED_AT, COMPARED, MOST_WAIT_MS};
use crate::what::What;

const WIDTH: f64 = 1_040.0;
const HEIGHT: f64 = 680.0;
/// Where the two columns begin, the width of their plots, and where their labels begin behind it.
const COLUMNS: [f64; 2] = [60.0, 580.0];
const PLOT_WIDTH: f64 = 300.0;
/// How far left of their column titles begin, so that numbers have room.
const TITLE_OUTDENT: f64 = 40.0;
const LABEL_GAP: f64 = 10.0;
/// From one label to the next.
const LABEL_HEIGHT: f64 = 14.0;

/// The two columns, each a title and its lines with their colours; what is grey is a ceiling.
const WRITES: (&str, &[(What, &str)]) = (
    "Writes, each on disk before its reply",
    &[
        (What::FixedJson, "grey"),
        (What::CommitPerRequest, "grey"),
        (What::Creates, "blue"),
        (What::WhiteLabel, "violet"),
        (What::Idempotent, "green"),
        (What::Appends, "red"),
        (What::AppendsCommitEach, "grey"),
    ],
);
const READS: (&str, &[(What, &str)]) = (
    "Reads, and answers as streams",
    &[
        (What::FixedJson, "grey"),
        (What::DryRuns, "blue"),
        (What::ListPages, "violet"),
        (What::MessagePages, "green"),
        (What::Streams, "amber"),
        (What::FirstDelta, "red"),
    ],
);

/// Own colours for both kinds of page; the card has its own ground, so that it need not match the page around it.
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

/// How far the unit's name reaches into a plot.
const UNIT_WIDTH: f64 = 66.0;

/// A value of all cells.
type Reading = fn(&Measured) -> f64;

/// One plot.
struct Panel<'a> {
    report: &'a Report,
    lines: &'a [(What, &'a str)],
    reading: Reading,
    left: f64,
    top: f64,
    height: f64,
    connections: Vec<usize>,
    /// The decades that it shows, as powers of ten.
    decades: (i32, i32),
}

/// Draws what was measured.
pub fn draw(report: &Report, path: &Path) -> Result<(), Failed> {
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Rates and waiting times over connections">
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
            rates.draw(&mut svg, "requests a second")?;
            rates.draw_aimed_rates(&mut svg)?;
            if is_writes {
                rates.draw_sqlite(&mut svg)?;
            }
        }
        if let Some(waits) = panel(|cell| cell.p99_ms, 455.0, 145.0) {
            waits.draw(&mut svg, "p99, ms")?;
            if is_writes {
                let said = format!("{}: at most {MOST_WAIT_MS} ms", What::Creates);
                waits.draw_aim(&mut svg, MOST_WAIT_MS, &said)?;
            }
        }
    }
    let about = format!(
        "Over connections that are open at one time, log scales; {} cores, which the client shares; {} s a cell; everything on.",
        report.cores, report.seconds_per_cell
    );
    let key = "Grey: ceilings and variants. Dotted: the file has 1,000,000 sessions and 5,000,000 messages. Bars: what is aimed at.";
    let left = COLUMNS[0] - TITLE_OUTDENT;
    text(&mut svg, "", left, HEIGHT - 32.0, &about)?;
    text(&mut svg, "", left, HEIGHT - 18.0, key)?;
    svg.push_str("</svg>\n");
    std::fs::write(path, svg)?;
    Ok(())
}

impl<'a> Panel<'a> {
    /// A panel for what was measured of these lines, if anything was.
    fn new(
        report: &'a Report,
        lines: &'a [(What, &'a str)],
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
        for (what, colour) in self.lines {
            for (size, class) in [(Size::Big, "line big"), (Size::Small, "line")] {
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
                    r#"<polyline class="{class}" stroke="var(--{colour})" points="{}"/>"#,
                    path.join(" ")
                )?;
                if size == Size::Small {
                    for (x, y) in &points {
                        writeln!(
                            svg,
                            r#"<circle class="dot" cx="{x:.1}" cy="{y:.1}" r="2.6" stroke="var(--{colour})" stroke-width="1.6"/>"#
                        )?;
                    }
                    labels.push((*x, *y, *what, *colour));
                }
            }
        }
        draw_labels(svg, labels, bottom)
    }

    fn points(&self, what: What, size: Size) -> Vec<(f64, f64)> {
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

    /// Marks what a rate is to be, where the rate that it is a multiple of was measured.
    fn draw_aimed_rates(&self, svg: &mut String) -> Result<(), Failed> {
        for (what, with, aim) in COMPARED {
            let Some(Aim::AtLeast(times)) = aim else {
                continue;
            };
            let is_here = self.lines.iter().any(|(line, _)| *line == what);
            if let Some(cell) = self.report.cell(with, Size::Small, AIMED_AT)
                && is_here
            {
                let said = format!("{what}: {times} × {with}");
                self.draw_aim(svg, times * cell.per_second, &said)?;
            }
        }
        Ok(())
    }

    /// Marks a value that is aimed at.
    fn draw_aim(&self, svg: &mut String, value: f64, said: &str) -> Result<(), Failed> {
        if !self.connections.contains(&AIMED_AT) {
            return Ok(());
        }
        let (x, y) = (self.x(AIMED_AT), self.y(value));
        rule(svg, "aim", (x - 9.0, y), (x + 9.0, y))?;
        text(svg, "end aimed", x - 13.0, y + 4.0, said)
    }

    /// SQLite alone has no connections: its rate is the same over all of them.
    fn draw_sqlite(&self, svg: &mut String) -> Result<(), Failed> {
        let Some(rows) = self.report.sqlite_rows_per_second else {
            return Ok(());
        };
        let y = self.y(rows);
        let right = self.left + PLOT_WIDTH;
        // Above the highest decade the unit stands at the left.
        rule(svg, "alone", (self.left + UNIT_WIDTH, y), (right, y))?;
        let said = format!("{}, rows in groups of 64", What::Sqlite);
        text(svg, "end", right, y - 5.0, &said)
    }
}

/// Writes the lines' names behind their ends, none over another.
fn draw_labels(
    svg: &mut String,
    mut labels: Vec<(f64, f64, What, &str)>,
    bottom: f64,
) -> Result<(), Failed> {
    labels.sort_by(|one, other| one.1.total_cmp(&other.1));
    let mut places: Vec<f64> = Vec::with_capacity(labels.len());
    for (_, y, ..) in &labels {
        let free = places.last().map_or(*y, |above| above + LABEL_HEIGHT);
        places.push(y.max(free));
    }
    // What was pushed below the plot pushes back.
    let mut lowest = bottom;
    for place in places.iter_mut().rev() {
        *place = place.min(lowest);
        lowest = *place - LABEL_HEIGHT;
    }
    for ((x, y, what, colour), place) in labels.into_iter().zip(places) {
        let begins = x + LABEL_GAP;
        writeln!(
            svg,
            r#"<path class="leader" d="M{:.1} {y:.1}L{begins:.1} {place:.1}"/>
<text x="{:.1}" y="{:.1}" style="fill: var(--{colour})">{what}</text>"#,
            x + 4.0,
            begins + 3.0,
            place + 4.0
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

fn text(svg: &mut String, class: &str, x: f64, y: f64, said: &str) -> Result<(), Failed> {
    writeln!(
        svg,
        r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{said}</text>"#
    )?;
    Ok(())
}

/// A power of ten, with commas.
fn grouped(value: f64) -> String {
    if value < 1_000.0 {
        return value.to_string();
    }
    let thousands = grouped(value / 1_000.0);
    format!("{thousands},000")
}
