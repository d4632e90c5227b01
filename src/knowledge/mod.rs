//! Knowledge: question parsing, the passage index over articles, and the built-in answers that
//! quote them.

pub mod builtin;
pub mod citations;
pub mod html;
pub mod mentions;
pub mod passage_index;
pub mod question;
pub mod spelling;
