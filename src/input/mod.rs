//! Input from outside: field readers, drafts, seed files and company lists.

pub mod company_file;
pub mod draft;
pub mod fields;
pub mod json;
pub mod seed;
