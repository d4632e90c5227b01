//! Turns: the queue, the engine that answers them, the responders, and the stored event streams.

pub mod answer;
mod claiming;
pub mod copies;
pub mod engine;
pub mod envelope;
pub mod live;
pub mod log;
pub mod openai;
pub mod queue;
pub mod reasoning;
pub mod respond;
pub mod responder;
pub mod signals;
pub mod stream;
mod tokens;
