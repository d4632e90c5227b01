//! Lists of one tenant's companies as CSV, read row by row (contract, section 11).

use std::io::{self, Read};

use serde_json::{Map, Value};

use crate::input::company_headings::{Columns, HeadingMap, ListField, is_known};
use crate::input::company_set::CompanySet;
use crate::input::draft::{COMPANY_DIRECTORIES, CompanyDraft};
use crate::input::fields::{Fields, Problem, Problems, shortened};
use crate::input::problem_list::ProblemList;
use crate::input::seed::{SeedCompany, UnknownFields};
use crate::input::table::dialect::{Preamble, SEPARATORS, separator};
use crate::input::table::encoding::Utf8;
use crate::input::table::records::{Cells, Next, Record, Records};
use crate::model::directory::DirectoryId;
use crate::text::counted;

/// Words that people and programs write where they have no id of a directory, in lower case.
const NO_DIRECTORY: [&str; 5] = ["n/a", "#n/a", "-", "none", "null"];
/// How the last line of a report begins, in lower case, if it is no company.
const TOTALS: [&str; 4] = ["grand total", "total", "summe", "sum"];

/// How to read a list.
#[derive(Clone, Debug)]
pub struct ListOptions {
    /// The columns that the operator names.
    pub maps: Vec<HeadingMap>,
    /// Whether to pass over columns that cannot be told apart.
    pub unknown_fields: UnknownFields,
}

impl Default for ListOptions {
    fn default() -> Self {
        Self {
            maps: Vec::new(),
            unknown_fields: UnknownFields::Refuse,
        }
    }
}

/// What a list has beside its companies.
#[derive(Debug, Default)]
pub struct Remarks {
    /// The problems. With a problem, nothing is imported.
    pub problems: ProblemList,
    /// What is left aside or assumed.
    pub warnings: ProblemList,
    /// The headings of another system, and what they are read as.
    pub mapped: Option<String>,
}

/// A row that is not read as a company yet.
struct ListRow {
    line: u64,
    cells: Cells,
}

/// The rows of a CSV file with their lines. Problems are collected. Several rows can be of one
/// company: see [`crate::input::company_set`].
///
/// An empty cell leaves its field unchanged, so that a list with gaps removes no link. A word that
/// says that there is no directory counts as an empty cell.
pub struct CompanyRows<R> {
    records: Records<Utf8<R>>,
    record: Record,
    separator: u8,
    columns: Columns,
    /// The row after one that can be a total.
    following: Option<ListRow>,
    remarks: Remarks,
    is_at_end: bool,
    failure: Option<io::Error>,
}

impl<R: Read> CompanyRows<R> {
    /// Reads the first lines, up to the one that names the columns.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn new(input: R, options: &ListOptions) -> io::Result<Self> {
        let mut rows = Self {
            records: Records::over(Utf8::over(input)),
            record: Record::default(),
            separator: SEPARATORS[0],
            columns: Columns::default(),
            following: None,
            remarks: Remarks::default(),
            is_at_end: false,
            failure: None,
        };
        rows.read_headings(options);
        match rows.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(rows),
        }
    }

    fn read_headings(&mut self, options: &ListOptions) {
        let mut said = None;
        while self.read_record(&SEPARATORS) {
            match Preamble::read(&self.record.bytes) {
                Some(Preamble::Separator(separator)) => said = Some(separator),
                Some(Preamble::Type) => {}
                None => break,
            }
        }
        let headings = &self.record.bytes;
        self.separator = said.unwrap_or_else(|| separator(headings, is_known));
        let cells = Cells::of(headings, self.separator);
        if !self.remarks.problems.is_empty() {
            return;
        }
        let line = self.record.line;
        match Columns::read(line, &cells, &options.maps, options.unknown_fields) {
            Ok(columns) => self.columns = columns,
            // No row can be read without the columns.
            Err(problems) => {
                self.remarks.problems.extend(problems);
                self.is_at_end = true;
            }
        }
        self.remarks.mapped = self.columns.mapped.take();
        if let Some(unread) = self.columns.unread.take() {
            let reason = format!("these columns are no fields of a company: {unread}");
            self.ignore(format!("line {line}"), "", reason);
        }
    }

    /// Adds a problem that was found in the rows.
    pub fn report(&mut self, problem: Problem) {
        self.remarks.problems.push(problem);
    }

    /// The problems and warnings of the file.
    ///
    /// # Errors
    /// The file could not be read to its end.
    pub fn end(mut self) -> io::Result<Remarks> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if let Some(encoding) = self.records.input().assumed() {
            let reason = format!(
                "is not UTF-8 and has no mark; it is read as {encoding}. If names look wrong, save it as CSV UTF-8"
            );
            let warning = problem("the file".to_owned(), "", reason);
            self.remarks.warnings.push(warning);
        }
        Ok(self.remarks)
    }

    fn ignore(&mut self, path: String, value: &str, reason: String) {
        let warning = problem(format!("ignored: {path}"), value, reason);
        self.remarks.warnings.push(warning);
    }

    /// Reads a record. Returns whether there is one.
    fn read_record(&mut self, separators: &[u8]) -> bool {
        if self.is_at_end {
            return false;
        }
        let path = |record: &Record| format!("line {}", record.line);
        match self.records.next(separators, &mut self.record) {
            Ok(Next::Record) if self.record.is_open => {
                let reason = "begins with a cell whose closing quote is missing";
                let (path, reason) = (path(&self.record), reason.to_owned());
                self.remarks.problems.push(problem(path, "", reason));
            }
            Ok(Next::Record) => return true,
            Ok(Next::TooLong) => {
                let reason = "has more than 1 MiB; check for a missing closing quote";
                let (path, reason) = (path(&self.record), reason.to_owned());
                self.remarks.problems.push(problem(path, "", reason));
            }
            Ok(Next::End) => {}
            Err(error) => self.failure = Some(error),
        }
        self.is_at_end = true;
        false
    }

    /// Reads the next row that has text.
    fn read_row(&mut self) -> Option<ListRow> {
        while self.read_record(&[self.separator]) {
            let cells = Cells::of(&self.record.bytes, self.separator);
            if cells.iter().any(|cell| !cell.is_empty()) {
                let line = self.record.line;
                return Some(ListRow { line, cells });
            }
        }
        None
    }

    /// The next row that is a company. The last line of a report can be a total.
    fn next_row(&mut self) -> Option<ListRow> {
        let row = match self.following.take() {
            Some(row) => row,
            None => self.read_row()?,
        };
        if !self.is_like_total(&row.cells) {
            return Some(row);
        }
        self.following = self.read_row();
        if self.following.is_some() || self.failure.is_some() {
            return Some(row);
        }
        let first = String::from_utf8_lossy(row.cells.get(0)).into_owned();
        let reason = "is a total, not a company; the line is not imported".to_owned();
        self.ignore(format!("line {}", row.line), &first, reason);
        None
    }

    /// Whether a row looks like the total of a report: by its first cell, and without a directory.
    fn is_like_total(&self, cells: &Cells) -> bool {
        let first = String::from_utf8_lossy(cells.get(0)).to_lowercase();
        let is_total = TOTALS.iter().any(|word| {
            first.strip_prefix(word).is_some_and(|rest| {
                let rest = rest.strip_prefix('s').unwrap_or(rest);
                // "Sumatra" is no sum.
                !rest.starts_with(char::is_alphabetic)
            })
        });
        is_total
            && match self.columns.place(ListField::Directory) {
                None => true,
                Some(place) => {
                    let cell = String::from_utf8_lossy(cells.get(place));
                    cell.trim().is_empty() || is_no_directory(&cell) || is_count(&cell)
                }
            }
    }

    /// Reads a row with the checks of a request body; `None` for one without an id.
    fn company(&mut self, row: &ListRow) -> Option<SeedCompany> {
        let ListRow { line, cells } = row;
        let line = *line;
        let is_filled = |index: usize| !cells.get(index).is_empty();
        if cells.len() < self.columns.needed() || (self.columns.count..cells.len()).any(is_filled) {
            let reason = format!(
                "has {}, but the first line names {}; give each row one cell per column",
                counted(cells.len(), "cell", "cells"),
                counted(self.columns.count, "column", "columns")
            );
            let problem = problem(format!("line {line}"), "", reason);
            self.remarks.problems.push(problem);
            return None;
        }
        let (mut fields, mut directories) = (Map::new(), Vec::new());
        for field in ListField::ALL {
            let Some(place) = self.columns.place(field) else {
                continue;
            };
            match text_of(cells.get(place)) {
                Ok("") => {}
                Ok(text) if field == ListField::Directory => {
                    let text = text.to_owned();
                    directories = self.directories(line, &text);
                }
                Ok(text) => {
                    fields.insert(field.name().to_owned(), text.into());
                }
                Err((shown, reason)) => {
                    let problem = problem(location(line, field.name()), &shown, reason);
                    self.remarks.problems.push(problem);
                    return None;
                }
            }
        }
        let fields = Value::Object(fields);
        let found = Problems::default();
        let company = Fields::root(&fields, &found).and_then(|fields| {
            let id = ListField::Id.name();
            let psa_company_id = fields.required(id, fields.named(id));
            let mut draft = CompanyDraft::read(&fields);
            draft.set_links(directories);
            Some(SeedCompany {
                path: format!("line {line}"),
                draft,
                psa_company_id: psa_company_id?,
            })
        });
        let problems = found.into_all().into_iter().map(|problem| Problem {
            path: location(line, &problem.path),
            ..problem
        });
        self.remarks.problems.extend(problems);
        company
    }

    /// Reads a cell of M365 tenants, with a semicolon between several.
    fn directories(&mut self, line: u64, cell: &str) -> Vec<DirectoryId> {
        let path = location(line, ListField::Directory.name());
        let mut directories: Vec<DirectoryId> = Vec::new();
        let ids = cell.split(';').map(str::trim);
        for text in ids.filter(|text| !text.is_empty()) {
            if is_no_directory(text) {
                let reason = "is read as an empty cell".to_owned();
                self.ignore(path.clone(), text, reason);
                continue;
            }
            match DirectoryId::parse(text, &shortened(&text.into())) {
                Ok(id) if directories.iter().any(|known| known.id() == id.id()) => {}
                Ok(id) if directories.len() < COMPANY_DIRECTORIES => directories.push(id),
                Ok(_) => {
                    let reason = format!(
                        "has more than {COMPANY_DIRECTORIES} M365 tenants, the most that a company can have"
                    );
                    self.report(problem(path, cell, reason));
                    break;
                }
                Err(reason) => self.report(problem(path.clone(), text, reason)),
            }
        }
        directories
    }
}

impl<R: Read> Iterator for CompanyRows<R> {
    type Item = (u64, SeedCompany);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let row = self.next_row()?;
            if let Some(company) = self.company(&row) {
                return Some((row.line, company));
            }
        }
    }
}

/// Parses a whole CSV file.
///
/// # Errors
/// The format problems in the file, so that the operator can correct them together.
pub fn parse(bytes: &[u8], options: &ListOptions) -> Result<Vec<SeedCompany>, Vec<Problem>> {
    let unreadable = |error: io::Error| vec![problem("the file".to_owned(), "", error.to_string())];
    let mut rows = CompanyRows::new(bytes, options).map_err(unreadable)?;
    let mut companies = CompanySet::default();
    while let Some((line, row)) = rows.next() {
        if let Err(problem) = companies.add(line, row) {
            rows.report(problem);
        }
    }
    let problems = rows.end().map_err(unreadable)?.problems;
    match problems.is_empty() {
        true => {
            let companies = companies.into_companies().into_iter();
            Ok(companies.map(|(_, company)| company).collect())
        }
        false => Err(problems.into_listed()),
    }
}

/// The text of a cell. Otherwise what a message shows of the cell, and the reason.
fn text_of(cell: &[u8]) -> Result<&str, (String, String)> {
    let Ok(text) = std::str::from_utf8(cell) else {
        let shown = String::from_utf8_lossy(cell).into_owned();
        return Err((shown, "is not UTF-8; save the file as CSV UTF-8".to_owned()));
    };
    let text = text.trim();
    // Without its closing quote, a cell includes the lines that follow. Those must not become part
    // of a name.
    if text.contains(['\r', '\n']) {
        let first = text.lines().next().unwrap_or_default().to_owned();
        let reason = "must not contain a line break; check for a missing closing quote";
        return Err((first, reason.to_owned()));
    }
    Ok(text)
}

fn is_no_directory(text: &str) -> bool {
    let mut words = NO_DIRECTORY.iter();
    words.any(|word| word.eq_ignore_ascii_case(text.trim()))
}

/// Whether a cell is a number that is too short for an id of a directory.
fn is_count(text: &str) -> bool {
    const GUID_DIGITS: usize = 32;
    let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b',');
    text.len() < GUID_DIGITS && text.bytes().all(is_digit)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &[u8]) -> Result<Vec<SeedCompany>, Vec<Problem>> {
        parse(file, &ListOptions::default())
    }

    #[test]
    fn the_line_of_a_row_is_that_of_its_first_character() {
        let file = b"\n\r\npsa_company_id,psa_company_name\r\n\r\n\n1,\"A\"\r\n2,B\n\n3,C";
        let rows = read(file).unwrap();
        let lines: Vec<&str> = rows.iter().map(|row| row.path.as_str()).collect();
        assert_eq!(lines, ["line 6", "line 7", "line 9"]);
    }

    #[test]
    fn a_problem_shows_the_beginning_of_an_invalid_cell_and_no_api_key() {
        let first = |file: String| read(file.as_bytes()).unwrap_err().swap_remove(0);
        let long = "x".repeat(9_999);
        let short = format!("\"{}…", "x".repeat(79));
        assert!(first(format!("{long}\n")).reason.contains(&short));
        let row = first(format!("psa_company_id\n\"{long}\n2\"\n"));
        assert_eq!(row.value, short);
        let key = first("psa_company_id\n\"neo_sk_demo_12345678\n2\"\n".to_owned());
        assert_eq!(key.value, "\"neo_sk_…\"");
    }

    #[test]
    fn a_row_that_never_ends_is_a_problem_before_the_rest_of_the_file_is_in_memory() {
        let begin = "psa_company_id,psa_company_name\n1,A\n\n2,\"B\n".as_bytes();
        let endless = begin.chain(io::repeat(b'x'));
        let mut rows = CompanyRows::new(endless, &ListOptions::default()).unwrap();
        let ids: Vec<String> = rows
            .by_ref()
            .map(|(_, row)| row.psa_company_id.to_string())
            .collect();
        assert_eq!(ids, ["1"]);
        let problems = rows.end().unwrap().problems.into_listed();
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
        let problems = read(file.as_bytes()).unwrap_err();
        assert_eq!(problems.len(), 1_001);
        assert_eq!(problems[999].path, "line 1001, psa_company_id");
        assert_eq!(problems[1_000].path, "and 200 more");
    }
}
