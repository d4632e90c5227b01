//! Input from outside: field readers, drafts, seed files and company lists.

pub mod company_file;
pub mod company_headings;
pub mod company_set;
pub mod draft;
pub mod fields;
pub mod json;
pub mod people;
pub mod problem_list;
pub mod seed;
mod table;
