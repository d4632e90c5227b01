//! What happens to a message once it is accepted.

pub mod openai;
pub mod responder;
pub mod signals;
