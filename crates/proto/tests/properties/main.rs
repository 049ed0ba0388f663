//! Properties of the wire, over generated and damaged input, against libraries that nobody here
//! wrote. The fuzz targets share the oracles.
#![allow(clippy::unwrap_used, reason = "tests")]

mod codec;
mod documents;
mod envelopes;
mod json;
mod oracle;
mod proxies;
