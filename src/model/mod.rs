//! The nouns: ids, names, agents, channels, sessions. Parsed once at the door, then carried as types.

pub mod clock;
pub mod ids;
pub mod names;
pub mod words;
