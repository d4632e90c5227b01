//! The domain types: ids, names, callers, sessions. Input is parsed into them once, at the edge.

pub mod answer;
pub mod api_key;
pub mod article;
pub mod author;
pub mod caller;
pub mod clock;
mod company_id;
pub mod directory;
pub mod file;
pub mod ids;
pub mod names;
pub mod session;
pub mod tenant;
pub mod user_id;
pub mod words;
