//! Knowledge: what a question asks, which passages of the articles fit, and the built-in answers that quote them.

pub mod builtin;
pub mod passage_index;
pub mod question;
