//! What happens to a message once it is accepted: its turn waits, is answered, and its stream is kept.

pub mod answer;
pub mod engine;
pub mod envelope;
pub mod live;
pub mod log;
pub mod openai;
pub mod queue;
pub mod respond;
pub mod responder;
pub mod signals;
pub mod stream;
