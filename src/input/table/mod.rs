//! Tables as text: files of rows and cells, as spreadsheets and other programs write them.

pub(in crate::input) mod dialect;
pub(in crate::input) mod encoding;
pub(in crate::input) mod records;
