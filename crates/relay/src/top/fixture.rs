//! Answers of a relay, for the tests.

use super::api::{Detail, Page, Summary};

/// With every figure, in words of the interface's description.
pub(super) const SUMMARY: &str = r#"{
 "version":"0.1.0","phase":"ready","now_ms":1790310000000,"uptime_seconds":7384,"show_ids":false,
 "binaries":3,"phones":12,"parked":1,"slots":{"live":3,"grace":1,"waiting":0},
 "connections":{"now":15,"limit":20000},"handshakes":{"now":0,"limit":1000},
 "queue_bytes":{"now":0,"high_water":12345,"limit":1073741824},"park_bytes":{"now":0,"limit":33554432},
 "totals":{"frames_up":1000,"frames_down":2345,"received_bytes":5000000,"sent_bytes":6000000,"accepts":40,
  "refusals":2,"takeovers":1,"reclaims":5,"resumes":3,"evictions":0,"grace_expiries":1},
 "sample":{"t":1790310000000,"binaries":3,"phones":12,"parked":1,"frames_up":12,"frames_down":1456,
  "received_bytes":2048,"sent_bytes":3145728,"latency_p50_us":40,"latency_p99_us":1200,"heartbeat_p50_ms":null,
  "heartbeat_p99_ms":null,"queue_bytes":0,"accepts":1,"refusals":0,"cpu_percent":3.25},
 "certificate":{"source":"acme","domain":"relay.example.com","not_after":1793436000,"state":"valid"},
 "push":{"on":false},
 "process":{"rss_bytes":47185920,"cpu_seconds":12.5,"open_fds":32,"fds_limit":20480}}"#;

pub(super) fn summary() -> Summary {
    serde_json::from_str(SUMMARY).unwrap()
}

/// A page of `n` slots out of `matching`, after `offset` others.
pub(super) fn page(offset: usize, n: usize, matching: usize) -> Page {
    let slots: Vec<_> = (offset..offset + n)
        .map(|i| {
            serde_json::json!({
                "slot": format!("{i:012x}"), "server_id": null, "state": if i % 3 == 2 { "grace" } else { "live" },
                "since_seconds": 75 * (i + 1), "phones": 16 - i % 16, "parked": i % 3, "queue_bytes": 1536 * i,
                "version": "1.2.3", "remote": format!("192.0.2.{}", i % 250),
            })
        })
        .collect();
    let page = serde_json::json!({ "total": matching + 1, "matching": matching, "offset": offset, "slots": slots });
    serde_json::from_value(page).unwrap()
}

/// A slot with `n` phones. The first has an evil name.
pub(super) fn detail(n: usize) -> Detail {
    let phones: Vec<_> = (0..n)
        .map(|i| {
            serde_json::json!({
                "phone": format!("{i:08x}"), "device_name": if i == 0 { "Evil\u{1b}[2J\u{202e}" } else { "Pixel 8" },
                "remote": format!("198.51.100.{i}"), "state": "linked", "connected_seconds": 61, "queue_bytes": 0,
                "frames_up": 10 * i, "frames_down": 7, "last_up_bytes": [64, 128], "last_down_bytes": [],
            })
        })
        .collect();
    let detail = serde_json::json!({
        "slot": "000000000000", "state": "live", "since_seconds": 75, "phones": phones,
        "binary": {"version": "1.2.3", "remote": "192.0.2.0", "connected_seconds": 75, "queue_bytes": 0,
            "resumable": true},
    });
    serde_json::from_value(detail).unwrap()
}
