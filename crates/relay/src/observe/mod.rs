//! What an operator can see: log lines, metrics, health.

pub mod health;
pub mod log;
pub mod metrics;
pub mod process;
pub(crate) mod recent;
mod text;
pub mod vocabulary;
