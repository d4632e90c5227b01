//! Lists of companies as CSV: a parsed list that is written and parsed again is the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use switchboard::input::company_file::{ListOptions, parse};
use switchboard::input::fields::Field;
use switchboard_fuzz::assert_readable;

/// Quotes a cell. An absent value is an empty cell.
fn cell(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

fuzz_target!(|bytes: &[u8]| {
    let options = ListOptions::default();
    let companies = match parse(bytes, &options) {
        Ok(companies) => companies,
        Err(problems) => return assert_readable(&problems),
    };
    let mut file = "tenant_id,psa_company_id,psa_company_name\n".to_owned();
    for company in &companies {
        let draft = company.draft.clone();
        assert_ne!(draft.psa_company_name, Field::Null);
        assert_eq!(draft.custom_instructions, Field::Absent);
        let directories = draft.directories().value().unwrap_or_default();
        let directories: Vec<&str> = directories.iter().map(|id| id.as_str()).collect();
        let directories = directories.join(";");
        let cells = [
            directories.as_str(),
            company.psa_company_id.as_str(),
            &draft.psa_company_name.value().unwrap_or_default(),
        ];
        file += &cells.map(cell).join(",");
        file.push('\n');
    }
    let again = parse(file.as_bytes(), &options)
        .unwrap_or_else(|problems| panic!("{problems:?}\n{file}"));
    assert_eq!(again.len(), companies.len());
    for (again, company) in again.iter().zip(&companies) {
        assert_eq!(again.psa_company_id, company.psa_company_id);
        assert_eq!(again.draft.psa_company_name, company.draft.psa_company_name);
        assert_eq!(again.draft.directories(), company.draft.directories());
    }
});
