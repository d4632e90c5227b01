//! The nouns: ids, names, callers, sessions. Parsed once at the door, then carried as types.

pub mod answer;
pub mod api_key;
pub mod article;
pub mod caller;
pub mod clock;
pub mod file;
pub mod ids;
pub mod names;
pub mod session;
pub mod tenant;
pub mod words;
