//! Lists of one tenant's companies as CSV, read row by row (contract, section 11).

use std::collections::HashMap;
use std::io::{self, Read};

use csv::{ByteRecord, ReaderBuilder};
use serde_json::{Map, Value};

use crate::input::draft::CompanyDraft;
use crate::input::fields::{Fields, Problem, Problems, shortened};
use crate::input::seed::{Parsed, SeedCompany, UnknownFields};
use crate::model::names::CompanyId;
use crate::text::counted;

/// The columns that a file may have, in any order. The first is required.
const COLUMNS: [&str; 3] = ["psa_company_id", "psa_company_name", TENANT_ID];
/// The column of the link.
const TENANT_ID: &str = "tenant_id";

/// Words that people and programs write where they have no id of a directory, in lower case.
const NO_DIRECTORY: [&str; 4] = ["n/a", "-", "none", "null"];

/// The maximum length of a row, in bytes. Without its closing quote, a cell includes the rest of
/// the file, which may be very long.
const MAX_ROW: usize = 1_024 * 1_024;

/// The column of each cell in a row; `None` for an ignored one.
type Columns = Vec<Option<&'static str>>;

/// The first problems of a file, and the number of the others.
#[derive(Debug, Default)]
pub struct ProblemList {
    first: Vec<Problem>,
    more: usize,
}

impl ProblemList {
    /// The maximum number of problems that are listed.
    const LISTED: usize = 1_000;

    /// Whether there is no problem.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Adds a problem.
    pub fn push(&mut self, problem: Problem) {
        match self.first.len() < Self::LISTED {
            true => self.first.push(problem),
            false => self.more += 1,
        }
    }

    /// Adds the problems of another list.
    pub fn append(&mut self, others: Self) {
        self.extend(others.first);
        self.more += others.more;
    }

    /// The problems to list. The last one stands for those that are not listed.
    pub fn into_listed(mut self) -> Vec<Problem> {
        if self.more > 0 {
            self.first.push(Problem {
                path: format!("and {} more", self.more),
                value: String::new(),
                reason: String::new(),
            });
        }
        self.first
    }
}

impl Extend<Problem> for ProblemList {
    fn extend<T: IntoIterator<Item = Problem>>(&mut self, problems: T) {
        problems.into_iter().for_each(|problem| self.push(problem));
    }
}

/// The companies of a CSV file with their lines. Problems are collected.
///
/// An empty cell leaves its field unchanged, so that a list with gaps removes no link. A word that
/// says that there is no directory counts as an empty cell.
pub struct CompanyRows<R> {
    reader: csv::Reader<Window<R>>,
    record: ByteRecord,
    columns: Columns,
    seen: Option<HashMap<CompanyId, u64>>,
    problems: ProblemList,
    ignored: ProblemList,
    is_at_end: bool,
    failure: Option<io::Error>,
}

impl<R: Read> CompanyRows<R> {
    /// Reads the first line, which names the columns.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn new(input: R, unknown_fields: UnknownFields) -> io::Result<Self> {
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(Window::over(input));
        let mut rows = Self {
            reader,
            record: ByteRecord::new(),
            columns: Columns::new(),
            seen: Some(HashMap::new()),
            problems: ProblemList::default(),
            ignored: ProblemList::default(),
            is_at_end: false,
            failure: None,
        };
        match rows.read_record() {
            Some(line) => {
                match header(line, &rows.record, unknown_fields, &mut rows.ignored) {
                    Ok(columns) => rows.columns = columns,
                    // No row can be read without the columns.
                    Err(problems) => {
                        rows.problems.extend(problems);
                        rows.is_at_end = true;
                    }
                }
            }
            None if rows.problems.is_empty() => {
                rows.problems
                    .push(problem(location(1, COLUMNS[0]), "", header_rule()));
            }
            None => {}
        }
        match rows.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(rows),
        }
    }

    /// The next companies: up to `limit` of them, and one more if there are more.
    pub fn first(&mut self, limit: usize) -> Vec<(u64, SeedCompany)> {
        self.take(limit.saturating_add(1)).collect()
    }

    /// Stops looking for companies that appear twice, which takes memory for each.
    pub fn allow_repeated(&mut self) {
        self.seen = None;
    }

    /// The problems of the rows, and the problems that were ignored.
    ///
    /// # Errors
    /// The file could not be read to its end.
    pub fn end(self) -> io::Result<(ProblemList, ProblemList)> {
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok((self.problems, self.ignored)),
        }
    }

    /// Reads a record. Returns the line in which it begins; `None` at the end of the file.
    fn read_record(&mut self) -> Option<u64> {
        if self.is_at_end {
            return None;
        }
        let outcome = self.reader.read_byte_record(&mut self.record);
        let (begin, line) = match self.record.position() {
            Some(position) => (position.byte(), position.line()),
            None => (0, 1),
        };
        let end = self.reader.position().byte();
        let window = self.reader.get_mut();
        // The reader counts the blank lines before a record as part of the record.
        let line = line + window.line_ends(begin);
        match outcome {
            Ok(true) => {
                window.forget_before(end);
                return Some(line);
            }
            Ok(false) => {}
            Err(_) if window.is_row_too_long() => self.problems.push(problem(
                format!("line {line}"),
                "",
                "has more than 1 MiB; check for a missing closing quote".to_owned(),
            )),
            Err(error) => self.failure = Some(io::Error::from(error)),
        }
        self.is_at_end = true;
        None
    }
}

impl<R: Read> Iterator for CompanyRows<R> {
    type Item = (u64, SeedCompany);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = self.read_record()?;
            let mut problems = Vec::new();
            let company = row(
                line,
                &self.record,
                &self.columns,
                &mut problems,
                &mut self.ignored,
            );
            self.problems.extend(problems);
            let Some(company) = company else { continue };
            let first = match &mut self.seen {
                Some(seen) => seen.insert(company.psa_company_id.clone(), line),
                None => None,
            };
            match first {
                None => return Some((line, company)),
                Some(first) => self.problems.push(repeated(&company, first)),
            }
        }
    }
}

/// The problem of a company that the file names twice.
pub fn repeated(company: &SeedCompany, first_line: u64) -> Problem {
    problem(
        format!("{}, {}", company.path, COLUMNS[0]),
        company.psa_company_id.as_str(),
        format!("appears twice in the file; the first time in line {first_line}"),
    )
}

/// Parses a whole CSV file.
///
/// # Errors
/// The format problems in the file, so that the operator can correct them together.
pub fn parse(
    bytes: &[u8],
    unknown_fields: UnknownFields,
) -> Result<Parsed<Vec<SeedCompany>>, Vec<Problem>> {
    let unreadable = |error: io::Error| vec![problem("the file".to_owned(), "", error.to_string())];
    let mut rows = CompanyRows::new(bytes, unknown_fields).map_err(unreadable)?;
    let contents = rows.by_ref().map(|(_, company)| company).collect();
    let (problems, ignored) = rows.end().map_err(unreadable)?;
    match problems.is_empty() {
        true => Ok(Parsed {
            contents,
            ignored: ignored.into_listed(),
        }),
        false => Err(problems.into_listed()),
    }
}

/// Keeps the bytes of the row that is being read.
struct Window<R> {
    input: R,
    /// The offset of the first byte that is kept.
    begin: u64,
    bytes: Vec<u8>,
    /// How many of the first bytes are not needed any longer.
    unused: usize,
}

impl<R> Window<R> {
    fn over(input: R) -> Self {
        Self {
            input,
            begin: 0,
            bytes: Vec::new(),
            unused: 0,
        }
    }

    /// The number of line ends in the run of line ends that begins at an offset.
    fn line_ends(&self, offset: u64) -> u64 {
        let from = offset.saturating_sub(self.begin);
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let bytes = self.bytes.get(from..).unwrap_or_default().iter();
        let run = bytes.take_while(|byte| matches!(byte, b'\r' | b'\n'));
        run.filter(|byte| **byte == b'\n').count() as u64
    }

    fn forget_before(&mut self, offset: u64) {
        let unused = usize::try_from(offset.saturating_sub(self.begin)).unwrap_or(usize::MAX);
        self.unused = unused.min(self.bytes.len());
    }

    fn is_row_too_long(&self) -> bool {
        self.bytes.len() - self.unused > MAX_ROW
    }
}

impl<R: Read> Read for Window<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_row_too_long() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.bytes.drain(..self.unused);
        self.begin += self.unused as u64;
        self.unused = 0;
        let read = self.input.read(buffer)?;
        self.bytes
            .extend_from_slice(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

fn location(line: u64, column: &str) -> String {
    format!("line {line}, {column}")
}

fn problem(path: String, value: &str, reason: String) -> Problem {
    let value = match value {
        "" => String::new(),
        value => shortened(&value.into()),
    };
    Problem {
        path,
        value,
        reason,
    }
}

fn header_rule() -> String {
    format!(
        "the first line must name the columns, separated by commas: {}, and optionally {} and {}",
        COLUMNS[0], COLUMNS[1], COLUMNS[2]
    )
}

/// Reads the header.
fn header(
    line: u64,
    record: &ByteRecord,
    unknown_fields: UnknownFields,
    ignored: &mut ProblemList,
) -> Result<Columns, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut columns = Columns::new();
    for cell in record {
        let name = String::from_utf8_lossy(cell);
        let name = name.trim();
        match COLUMNS
            .iter()
            .find(|column| column.eq_ignore_ascii_case(name))
        {
            None => {
                let reason = format!("is not a valid column; {}", header_rule());
                let problem = problem(format!("line {line}"), name, reason);
                match unknown_fields {
                    UnknownFields::Refuse => problems.push(problem),
                    UnknownFields::Ignore => ignored.push(problem),
                }
                columns.push(None);
            }
            Some(column) if columns.contains(&Some(column)) => {
                problems.push(problem(
                    format!("line {line}"),
                    name,
                    "appears twice; remove one of the columns".to_owned(),
                ));
            }
            Some(column) => columns.push(Some(column)),
        }
    }
    if problems.is_empty() && !columns.contains(&Some(COLUMNS[0])) {
        problems.push(problem(location(line, COLUMNS[0]), "", header_rule()));
    }
    if problems.is_empty() {
        Ok(columns)
    } else {
        Err(problems)
    }
}

/// Reads a row with the checks of a request body; `None` for an empty row or one without an id.
fn row(
    line: u64,
    record: &ByteRecord,
    columns: &[Option<&'static str>],
    problems: &mut Vec<Problem>,
    ignored: &mut ProblemList,
) -> Option<SeedCompany> {
    if record.iter().all(<[u8]>::is_empty) {
        return None;
    }
    if record.len() != columns.len() {
        problems.push(problem(
            format!("line {line}"),
            "",
            format!(
                "has {}, but the first line names {}; give each row one cell per column",
                counted(record.len(), "cell", "cells"),
                counted(columns.len(), "column", "columns")
            ),
        ));
        return None;
    }
    let mut cells = Map::new();
    for (column, cell) in columns.iter().zip(record) {
        let Some(column) = column else { continue };
        let Ok(text) = std::str::from_utf8(cell) else {
            let shown = String::from_utf8_lossy(cell);
            let reason = "is not UTF-8; save the file as CSV UTF-8".to_owned();
            problems.push(problem(location(line, column), &shown, reason));
            return None;
        };
        let text = text.trim();
        // Without its closing quote, a cell includes the lines that follow. Those must not become
        // part of a name.
        if text.contains(['\r', '\n']) {
            let reason =
                "must not contain a line break; check for a missing closing quote".to_owned();
            let first = text.lines().next().unwrap_or_default();
            problems.push(problem(location(line, column), first, reason));
            return None;
        }
        let is_no_directory = *column == TENANT_ID
            && NO_DIRECTORY
                .iter()
                .any(|word| word.eq_ignore_ascii_case(text));
        if is_no_directory {
            let reason = "is read as an empty cell".to_owned();
            ignored.push(problem(location(line, column), text, reason));
        } else if !text.is_empty() {
            cells.insert((*column).to_owned(), text.into());
        }
    }
    let cells = Value::Object(cells);
    let found = Problems::default();
    let company = Fields::root(&cells, &found).and_then(|fields| {
        let psa_company_id = fields.required(COLUMNS[0], fields.named(COLUMNS[0]));
        let draft = CompanyDraft::read(&fields);
        Some(SeedCompany {
            path: format!("line {line}"),
            draft,
            psa_company_id: psa_company_id?,
        })
    });
    problems.extend(found.into_all().into_iter().map(|problem| Problem {
        path: location(line, &problem.path),
        ..problem
    }));
    company
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_row_is_that_of_its_first_character() {
        let file = b"\n\r\npsa_company_id,psa_company_name\r\n\r\n\n1,\"A\"\r\n2,B\n\n3,C";
        let rows = parse(file, UnknownFields::Refuse).unwrap().contents;
        let lines: Vec<&str> = rows.iter().map(|row| row.path.as_str()).collect();
        assert_eq!(lines, ["line 6", "line 7", "line 9"]);
    }

    #[test]
    fn a_problem_shows_the_beginning_of_an_invalid_cell_and_no_api_key() {
        let shown = |file: String| {
            let problems = parse(file.as_bytes(), UnknownFields::Refuse).unwrap_err();
            problems.into_iter().next().unwrap().value
        };
        let long = "x".repeat(9_999);
        let short = format!("\"{}…", "x".repeat(79));
        assert_eq!(shown(format!("{long}\n")), short);
        assert_eq!(shown(format!("psa_company_id\n\"{long}\n2\"\n")), short);
        assert_eq!(
            shown("psa_company_id\n\"neo_sk_demo_12345678\n2\"\n".to_owned()),
            "\"neo_sk_…\""
        );
    }

    #[test]
    fn a_row_that_never_ends_is_a_problem_before_the_rest_of_the_file_is_in_memory() {
        let begin = "psa_company_id,psa_company_name\n1,A\n\n2,\"B\n".as_bytes();
        let mut rows =
            CompanyRows::new(begin.chain(io::repeat(b'x')), UnknownFields::Refuse).unwrap();
        let ids: Vec<String> = rows
            .by_ref()
            .map(|(_, row)| row.psa_company_id.to_string())
            .collect();
        assert_eq!(ids, ["1"]);
        let problems = rows.end().unwrap().0.into_listed();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].path, "line 4");
        assert_eq!(
            problems[0].reason,
            "has more than 1 MiB; check for a missing closing quote"
        );
    }

    #[test]
    fn the_first_problems_are_listed_and_the_others_are_counted() {
        let file = format!("psa_company_id\n{}", "a;b\n".repeat(1_200));
        let problems = parse(file.as_bytes(), UnknownFields::Refuse).unwrap_err();
        assert_eq!(problems.len(), 1_001);
        assert_eq!(problems[999].path, "line 1001, psa_company_id");
        assert_eq!(problems[1_000].path, "and 200 more");
    }
}
