//! A file of one tenant's companies as comma-separated values, read and checked before anything is written (contract, section 11).

use std::collections::HashMap;

use csv::{ByteRecord, ReaderBuilder};
use serde_json::{Map, Value};

use crate::input::draft::CompanyDraft;
use crate::input::fields::{Fields, Problem, Problems, shortened};
use crate::input::seed::SeedCompany;
use crate::model::names::CompanyId;

/// The columns that a file may have, in any order; the first must be there.
const COLUMNS: [&str; 3] = ["psa_company_id", "psa_company_name", "tenant_id"];

/// Reads a file's bytes.
///
/// An empty cell says nothing of its field, so that a list with gaps takes no link away.
///
/// # Errors
/// Every problem of form in it, so that all can be mended at once.
pub fn parse(bytes: &[u8]) -> Result<Vec<SeedCompany>, Vec<Problem>> {
    let mut problems = Vec::new();
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
            match header(line, &record) {
                Ok(names) => columns = Some(names),
                // Without its columns nothing else in it can be read.
                Err(problems) => return Err(problems),
            }
            continue;
        };
        let Some(company) = row(line, &record, columns, &mut problems) else {
            continue;
        };
        match seen.insert(company.psa_company_id.clone(), line) {
            None => companies.push(company),
            Some(before) => problems.push(problem(
                place(line, "psa_company_id"),
                company.psa_company_id.as_str(),
                format!("is named twice in the file, in line {before} before"),
            )),
        }
    }
    if columns.is_none() && problems.is_empty() {
        problems.push(problem(place(1, COLUMNS[0]), "", header_rule()));
    }
    if problems.is_empty() {
        Ok(companies)
    } else {
        Err(problems)
    }
}

/// Where a record begins. The reader counts the blank lines before it as its own.
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

fn place(line: u64, column: &str) -> String {
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
        "the first line must name the columns, with commas between: {} and any of {} and {}",
        COLUMNS[0], COLUMNS[1], COLUMNS[2]
    )
}

/// Which of the columns each cell of a row belongs to.
fn header(line: u64, record: &ByteRecord) -> Result<Vec<&'static str>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut columns = Vec::new();
    for cell in record {
        let name = String::from_utf8_lossy(cell);
        let name = name.trim();
        match COLUMNS
            .iter()
            .find(|column| column.eq_ignore_ascii_case(name))
        {
            None => problems.push(problem(
                format!("line {line}"),
                name,
                format!("is no column here; {}", header_rule()),
            )),
            Some(column) if columns.contains(column) => {
                problems.push(problem(
                    format!("line {line}"),
                    name,
                    "is there twice".to_owned(),
                ));
            }
            Some(column) => columns.push(*column),
        }
    }
    if problems.is_empty() && !columns.contains(&COLUMNS[0]) {
        problems.push(problem(place(line, COLUMNS[0]), "", header_rule()));
    }
    if problems.is_empty() {
        Ok(columns)
    } else {
        Err(problems)
    }
}

/// Reads a row as a request's body is read; `None` for an empty one, and for one without an id.
fn row(
    line: u64,
    record: &ByteRecord,
    columns: &[&'static str],
    problems: &mut Vec<Problem>,
) -> Option<SeedCompany> {
    if record.iter().all(<[u8]>::is_empty) {
        return None;
    }
    if record.len() != columns.len() {
        problems.push(problem(
            format!("line {line}"),
            "",
            format!(
                "has {} cells; the first line names {} columns",
                record.len(),
                columns.len()
            ),
        ));
        return None;
    }
    let mut cells = Map::new();
    for (column, cell) in columns.iter().zip(record) {
        let Ok(text) = std::str::from_utf8(cell) else {
            let shown = String::from_utf8_lossy(cell);
            let reason = "is not UTF-8; save the file as CSV UTF-8".to_owned();
            problems.push(problem(place(line, column), &shown, reason));
            return None;
        };
        let text = text.trim();
        // A quote that is left open takes in the lines that follow: that must not pass for a name.
        if text.contains(['\r', '\n']) {
            let reason = "must not contain a line break; is a quote left open?".to_owned();
            let first = text.lines().next().unwrap_or_default();
            problems.push(problem(place(line, column), first, reason));
            return None;
        }
        if !text.is_empty() {
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
        path: place(line, &problem.path),
        ..problem
    }));
    company
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_stands_where_its_first_character_stands() {
        let file = b"\n\r\npsa_company_id,psa_company_name\r\n\r\n\n1,\"A\"\r\n2,B\n\n3,C";
        let rows = parse(file).unwrap();
        let places: Vec<&str> = rows.iter().map(|row| row.path.as_str()).collect();
        assert_eq!(places, ["line 6", "line 7", "line 9"]);
    }

    #[test]
    fn what_stands_in_a_cell_that_will_not_do_is_shown_shortened_and_without_a_key() {
        let shown = |file: String| {
            let problems = parse(file.as_bytes()).unwrap_err();
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
