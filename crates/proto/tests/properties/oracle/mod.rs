//! What our answers are compared with.

pub(crate) mod envelope;
pub(crate) mod json;
pub(crate) mod proxy;
pub(crate) mod ws;
