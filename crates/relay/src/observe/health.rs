//! `/healthz`: is the relay up, and how much is connected to it.

use relay_core::Counts;

/// The body of a health answer, keys in this order, no trailing newline.
pub fn body(version: &str, counts: Counts, uptime_seconds: u64) -> String {
    let version = serde_json::Value::from(version);
    format!(
        "{{\"status\":\"ok\",\"version\":{version},\"connected_binaries\":{},\
         \"connected_phones\":{},\"uptime_seconds\":{uptime_seconds}}}",
        counts.binaries, counts.phones
    )
}
