//! Lists of one tenant's companies as CSV, checked before the import writes anything (contract,
//! section 11).

use std::collections::HashMap;

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

/// The column of each cell in a row; `None` for an ignored one.
type Columns = Vec<Option<&'static str>>;

/// Parses a CSV file.
///
/// An empty cell leaves its field unchanged, so that a list with gaps removes no link. A word that
/// says that there is no directory counts as an empty cell.
///
/// # Errors
/// All format problems in the file, so that the operator can correct them together.
pub fn parse(
    bytes: &[u8],
    unknown_fields: UnknownFields,
) -> Result<Parsed<Vec<SeedCompany>>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut ignored = Vec::new();
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(bytes);
    let mut columns = None;
    let mut companies = Vec::new();
    let mut seen: HashMap<CompanyId, u64> = HashMap::new();
    let mut record = ByteRecord::new();
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                problems.push(problem(
                    "the file".to_owned(),
                    "",
                    format!("cannot be read: {error}"),
                ));
                break;
            }
        }
        let line = line_of(&record, bytes);
        let Some(columns) = &columns else {
            match header(line, &record, unknown_fields, &mut ignored) {
                Ok(names) => columns = Some(names),
                // No row can be read without the columns.
                Err(problems) => return Err(problems),
            }
            continue;
        };
        let Some(company) = row(line, &record, columns, &mut problems, &mut ignored) else {
            continue;
        };
        match seen.insert(company.psa_company_id.clone(), line) {
            None => companies.push(company),
            Some(first_line) => problems.push(problem(
                location(line, "psa_company_id"),
                company.psa_company_id.as_str(),
                format!("appears twice in the file; the first time in line {first_line}"),
            )),
        }
    }
    if columns.is_none() && problems.is_empty() {
        problems.push(problem(location(1, COLUMNS[0]), "", header_rule()));
    }
    if problems.is_empty() {
        let contents = companies;
        Ok(Parsed { contents, ignored })
    } else {
        Err(problems)
    }
}

/// Returns the line in which a record begins.
///
/// The reader counts the blank lines before a record as part of the record.
fn line_of(record: &ByteRecord, bytes: &[u8]) -> u64 {
    let Some(position) = record.position() else {
        return 1;
    };
    let begin = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let blank = bytes
        .get(begin..)
        .unwrap_or_default()
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'));
    position.line() + blank.filter(|byte| **byte == b'\n').count() as u64
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
    ignored: &mut Vec<Problem>,
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
    ignored: &mut Vec<Problem>,
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
}
