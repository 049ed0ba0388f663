//! What an operator sees.

use std::collections::BTreeSet;

use relay_tests::{HOST, Launch, Phone, Relay, Transport, eventually, frame, json_of};
use serde_json::{Value, json};

use crate::client::{Events, exactly, get, only_slot, relay};

/// What is under this path of names.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    let pointer = format!("/{}", path.replace('.', "/"));
    value
        .pointer(&pointer)
        .unwrap_or_else(|| panic!("no {path} in {value}"))
}

#[tokio::test]
async fn the_summary_says_where_the_certificate_is_from_and_until_when_it_is_valid() {
    let files = Launch::new(&[]).over(Transport::Tls);
    let own = Launch::new(&["--self-signed"]).over_tls_with_its_own_certificate();
    for (launch, source) in [(files, "files"), (own, "self-signed")] {
        let relay = launch.start().await;
        let summary = get(&relay, "/admin/summary").await;
        let certificate = at(&summary, "certificate");
        assert_eq!(certificate["source"], source, "{certificate}");
        assert_eq!(certificate["state"], "valid", "{certificate}");
        assert!(certificate["not_after"].is_number(), "{certificate}");
    }
}

#[tokio::test]
async fn the_summary_says_which_certificate_is_missing() {
    let cache = tempfile::tempdir().unwrap();
    // No CA answers there.
    let directory = ["--acme-directory", "https://127.0.0.1:1/directory"];
    let relay = Launch::new(&["--domain", HOST, "--cert-cache"])
        .args(&[cache.path().to_str().unwrap()])
        .args(&directory)
        .over_tls_with_its_own_certificate()
        .listener("--http-listen")
        .start()
        .await;
    let summary = get(&relay, "/admin/summary").await;
    let missing =
        json!({ "source": "acme", "domain": HOST, "not_after": null, "state": "missing" });
    assert_eq!(at(&summary, "certificate"), &missing);
}

#[tokio::test]
async fn the_summary_is_what_is_connected() {
    let relay = relay(&["--boot-park", "60s", "--max-connections", "77"]).await;
    let (_one, _phone, _) = relay.pair("one").await;
    let (two, _other_phone, _) = relay.pair("two").await;
    let _silent = relay.phone("one").await;
    let _early = relay.phone("three").await;
    two.cut().await;
    let summary = eventually("a slot in grace", || async {
        let summary = get(&relay, "/admin/summary").await;
        (summary["slots"]["grace"] == 1 && summary["connections"]["now"] == 5).then_some(summary)
    })
    .await;
    for (path, expected) in [
        ("phase", json!("ready")),
        ("show_ids", json!(false)),
        ("binaries", json!(1)),
        ("phones", json!(4)),
        // The one that comes early, not the one whose binary knew it and is away.
        ("parked", json!(1)),
        ("slots", json!({"live": 1, "grace": 1, "waiting": 1})),
        ("connections.limit", json!(77)),
        ("handshakes.now", json!(0)),
        ("totals.frames_up", json!(2)),
        ("totals.frames_down", json!(0)),
        ("totals.accepts", json!(6)),
        ("totals.takeovers", json!(0)),
        (
            "certificate",
            match relay_tests::Transport::of_this_run() {
                Transport::Plain => Value::Null,
                Transport::Tls => at(&summary, "certificate").clone(),
            },
        ),
        ("push", json!({"on": false})),
    ] {
        assert_eq!(at(&summary, path), &expected, "{path}");
    }
    for number in [
        "now_ms",
        "uptime_seconds",
        "queue_bytes.high_water",
        "queue_bytes.limit",
        "park_bytes.limit",
        "totals.received_bytes",
        "process.rss_bytes",
        "process.cpu_seconds",
        "process.open_fds",
        "process.fds_limit",
        "sample.cpu_percent",
    ] {
        assert!(at(&summary, number).is_number(), "{number}");
    }
    assert!(at(&summary, "process.open_fds").as_u64() > Some(8));
    assert_eq!(summary.get("history"), None);
    let history = get(&relay, "/admin/summary?history=1").await;
    let samples = at(&history, "history.t").as_array().unwrap().len();
    assert!(samples > 0);
    for (name, column) in at(&history, "history").as_object().unwrap() {
        assert_eq!(column.as_array().unwrap().len(), samples, "{name}");
        assert!(summary["sample"].get(name).is_some(), "{name}");
    }
}

#[tokio::test]
async fn a_slots_page_shows_its_binary_its_phones_and_their_frames() {
    let relay = relay(&[]).await;
    let mut daemon = relay
        .daemon_with("home", &[("x-pyrycode-instance", "instance-of-home")])
        .await;
    let mut talker = relay.phone("home").await;
    let conn_id = daemon.hear(&mut talker).await;
    for bytes in [20, 500, 3_000] {
        talker.send(&json_of(bytes));
        daemon.expect_frame(&json_of(bytes)).await;
    }
    for n in 0..12 {
        daemon.send_to(&conn_id, &json_of(100 + n));
        talker.expect_frame(&json_of(100 + n)).await;
    }
    let _silent = relay.phone("home").await;
    let slot = only_slot(&relay).await;
    let detail = eventually("both phones", || async {
        let detail = get(&relay, &format!("/admin/slots/{slot}")).await;
        let both = detail["phones"].as_array().unwrap().len() == 2;
        (both && detail["phones"][0]["frames_down"] == 12).then_some(detail)
    })
    .await;
    assert_eq!(detail["slot"], slot.as_str());
    assert_eq!(detail["state"], "live");
    assert_eq!(detail["version"], "9.9.9-test");
    let binary = &detail["binary"];
    assert_eq!(binary["version"], "9.9.9-test");
    assert_eq!(binary["remote"], "127.0.0.1");
    assert_eq!(binary["resumable"], true);
    assert_eq!(binary["queue_bytes"], 0);
    assert!(binary["connected_seconds"].as_f64() < Some(60.0));
    let [talker, silent] = &detail["phones"].as_array().unwrap()[..] else {
        panic!("{detail}")
    };
    assert_eq!(
        Some(talker["phone"].as_str().unwrap()),
        conn_id.rsplit('-').next()
    );
    assert_eq!(talker["device_name"], "test phone");
    assert_eq!(talker["state"], "linked");
    assert_eq!(silent["state"], "waiting");
    assert_eq!(
        (&talker["frames_up"], &silent["frames_up"]),
        (&4.into(), &0.into())
    );
    assert_eq!(silent["last_up_bytes"], json!([]));
    let sizes = |value: &Value| -> Vec<u64> {
        let sizes = value.as_array().unwrap().iter();
        sizes.map(|size| size.as_u64().unwrap()).collect()
    };
    let near = |shown: &[u64], real: &[u64]| {
        assert_eq!(shown.len(), real.len(), "{shown:?}");
        for (shown, real) in shown.iter().zip(real) {
            assert!(shown.abs_diff(*real) * 16 <= *real, "{shown} for {real}");
        }
    };
    let up = sizes(&talker["last_up_bytes"]);
    near(&up[1..], &[20, 500, 3_000]);
    let down: Vec<u64> = (104..112).collect();
    near(&sizes(&talker["last_down_bytes"]), &down);
    assert_eq!(talker["queue_bytes"], 0);
}

#[tokio::test]
async fn a_stalled_phone_shows_in_its_queue_and_a_parked_one_as_parked() {
    let relay = relay(&[]).await;
    let daemon = relay.daemon("stalled").await;
    let mut raw = relay.raw_phone("stalled", Some(4096)).await;
    raw.send(&frame(1)).await;
    let mut daemon = daemon;
    let conn_id = daemon.envelope().await.conn_id;
    // The kernel takes some, nobody knows how much.
    let queued = eventually("queued bytes", || async {
        daemon.send_to(&conn_id, &json_of(100_000));
        let list = get(&relay, "/admin/slots?sort=queue&order=desc").await;
        let queued = list["slots"][0]["queue_bytes"].as_u64();
        queued.filter(|bytes| *bytes > 300_000)
    })
    .await;
    let slot = only_slot(&relay).await;
    let detail = get(&relay, &format!("/admin/slots/{slot}")).await;
    assert!(detail["phones"][0]["queue_bytes"].as_u64() > Some(queued / 2));

    let away = relay.daemon("away").await;
    let _parked: Phone = relay.phone("away").await;
    relay.expect_counts(2, 2).await;
    away.cut().await;
    let grace = eventually("a slot in grace", || async {
        let list = get(&relay, "/admin/slots?state=grace").await;
        (list["matching"] == 1).then(|| list["slots"][0].clone())
    })
    .await;
    assert_eq!(
        (&grace["parked"], &grace["version"]),
        (&1.into(), &Value::Null)
    );
    let path = format!("/admin/slots/{}", grace["slot"].as_str().unwrap());
    let detail = get(&relay, &path).await;
    assert_eq!(detail["binary"], Value::Null);
    assert_eq!(detail["phones"][0]["state"], "parked");
}

/// Everything that can be asked, as text.
async fn everything(relay: &Relay) -> String {
    let host = [("Host", "localhost")];
    let slot = only_slot(relay).await;
    let mut all = String::new();
    for target in [
        "/",
        "/admin/summary?history=1",
        "/admin/slots",
        &format!("/admin/slots/{slot}"),
        "/metrics",
    ] {
        all += exactly(relay, "GET", target, &host).await.text();
    }
    let mut events = Events::open(relay).await.unwrap();
    // What happened just now comes within a second.
    for _ in 0..3 {
        let (name, data) = events.next().await.unwrap();
        all += &format!("{name} {data}");
    }
    all
}

#[tokio::test]
async fn server_ids_are_hidden_unless_they_may_be_seen() {
    const ID: &str = "secret-5e7vE4-1d";
    for (args, shown) in [(&[] as &[_], false), (&["--admin-show-ids"], true)] {
        let relay = relay(args).await;
        let (mut daemon, _phone, conn_id) = relay.pair(ID).await;
        // A made-up conn_id is logged, and only there.
        daemon.send_to(&format!("client-{ID}-zzz"), &frame(1));
        relay
            .log
            .wait("binary_forwarder_unknown_conn_id", &[])
            .await;
        daemon.expect_alive().await;
        let all = everything(&relay).await;
        assert!(all.contains("server_claimed") && all.contains("binary_forwarder_unknown"));
        assert!(
            all.contains(conn_id.rsplit('-').next().unwrap()),
            "the phone"
        );
        assert_eq!(all.contains(ID), shown, "{all}");
        for secret in relay_tests::SECRETS {
            assert!(!all.contains(secret), "{secret}");
        }
        let found = get(&relay, &format!("/admin/slots?q={ID}")).await;
        assert_eq!(found["matching"], 1, "who knows it finds it");
        let beginning = get(&relay, "/admin/slots?q=secret-5e7v").await;
        assert_eq!(
            beginning["matching"], 0,
            "nobody can guess it piece by piece"
        );
        let id = found["slots"][0]["server_id"].as_str();
        assert_eq!(id, shown.then_some(ID));
    }
}

#[tokio::test]
async fn lists_are_sorted_searched_and_cut_into_pages() {
    const SLOTS: usize = 230;
    let relay = relay(&[]).await;
    let mut peers = Vec::new();
    for n in 0..SLOTS {
        peers.push(relay.daemon(&format!("home-{n}")).await.0);
    }
    for (n, phones) in [(7, 3), (70, 2), (170, 1)] {
        for _ in 0..phones {
            peers.push(relay.phone(&format!("home-{n}")).await.0);
        }
    }
    relay.expect_counts(SLOTS as u64, 6).await;
    let list = async |query: &str| get(&relay, &format!("/admin/slots?{query}")).await;
    let hashes = |page: &Value| -> Vec<String> {
        let slots = page["slots"].as_array().unwrap().iter();
        slots
            .map(|slot| slot["slot"].as_str().unwrap().to_owned())
            .collect()
    };
    for sort in ["age", "phones", "queue", "slot"] {
        for order in ["asc", "desc"] {
            let mut all = Vec::new();
            for offset in [0, 100, 200, 300] {
                let page = list(&format!("sort={sort}&order={order}&offset={offset}")).await;
                assert_eq!(page["total"], SLOTS);
                assert_eq!(page["matching"], SLOTS);
                assert_eq!(page["offset"], offset);
                all.extend(hashes(&page));
            }
            assert_eq!(all.len(), SLOTS, "{sort} {order}");
            let unique: BTreeSet<_> = all.iter().collect();
            assert_eq!(unique.len(), SLOTS, "{sort} {order}");
            if sort == "slot" {
                let sorted = match order {
                    "asc" => all.is_sorted(),
                    _ => all.iter().rev().is_sorted(),
                };
                assert!(sorted);
            }
        }
    }
    let busiest = list("sort=phones&order=desc&limit=4").await;
    let phones: Vec<_> = busiest["slots"].as_array().unwrap().iter().collect();
    let phones = phones.iter().map(|slot| slot["phones"].as_u64().unwrap());
    assert_eq!(phones.collect::<Vec<_>>(), [3, 2, 1, 0]);
    let oldest = list("sort=age&order=desc&limit=500").await;
    let ages: Vec<f64> = oldest["slots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|slot| slot["since_seconds"].as_f64().unwrap())
        .collect();
    assert!(ages.iter().rev().is_sorted());
    let some = hashes(&oldest).swap_remove(11);
    for prefix in [&some[..], &some[..8]] {
        let found = list(&format!("q={prefix}")).await;
        assert_eq!(hashes(&found), [some.as_str()]);
        assert_eq!(
            (&found["matching"], &found["total"]),
            (&1.into(), &SLOTS.into())
        );
    }
    let of_id = list("q=home-170").await;
    assert_eq!(
        (&of_id["matching"], &of_id["slots"][0]["phones"]),
        (&1.into(), &1.into())
    );
    assert_eq!(list("state=grace").await["matching"], 0);
    assert_eq!(list("q=nothing-like-it").await["matching"], 0);
}
