//! What an operator can close, and what the peers are told.

use relay_tests::{eventually, frame};

use crate::client::{Events, get, only_slot, post, relay};

const SAID: &str = "closed by the operator";

#[tokio::test]
async fn a_phone_is_closed_and_its_binary_is_told() {
    let relay = relay(&[]).await;
    let (mut daemon, mut phone, conn_id) = relay.pair("home").await;
    let mut other = relay.phone("home").await;
    let other_id = daemon.hear(&mut other).await;
    let slot = only_slot(&relay).await;
    let suffix = conn_id.rsplit('-').next().unwrap();
    let path = format!("/admin/slots/{slot}/phones/{suffix}/close");
    let (status, body) = post(&relay, &path).await;
    assert_eq!((status, body), (202, serde_json::json!({"closed": 1})));
    phone.expect_close(1001, SAID).await;
    daemon.expect_notice(&conn_id, 1001).await;
    daemon.send_to(&other_id, &frame(2));
    other.expect_frame(&frame(2)).await;
    eventually("its end in the metrics", || async {
        let series =
            "pyrycode_relay_connection_ends_total{leg=\"phone\",cause=\"operator\",by=\"relay\"}";
        (relay.metric(series).await == Some(1.0)).then_some(())
    })
    .await;
    for unknown in [
        path.as_str(),
        &format!("/admin/slots/{slot}/phones/00000000/close"),
        &format!(
            "/admin/slots/{slot}/phones/{}/close",
            suffix.to_uppercase() + "X"
        ),
        &format!("/admin/slots/{slot}/phones/+{}/close", &suffix[1..]),
        "/admin/slots/0123456789ab/phones/00000000/close",
        "/admin/slots/0123456789ab/close",
        "/admin/slots/home/close",
    ] {
        let (status, body) = post(&relay, unknown).await;
        assert_eq!(status, 404, "{unknown}");
        assert!(body["error"].is_string(), "{body}");
    }
}

#[tokio::test]
async fn a_slot_is_closed_with_everything_in_it_and_can_be_claimed_again() {
    let relay = relay(&[]).await;
    let (mut daemon, mut phone, _) = relay.pair("home").await;
    let mut silent = relay.phone("home").await;
    let (mut elsewhere, guest, _) = relay.pair("elsewhere").await;
    relay.expect_counts(2, 3).await;
    let list = get(&relay, "/admin/slots?q=home").await;
    let slot = list["slots"][0]["slot"].as_str().unwrap();
    let (status, body) = post(&relay, &format!("/admin/slots/{slot}/close")).await;
    assert_eq!((status, &body["closed"]), (202, &3.into()));
    daemon.expect_close_after_messages(1001, SAID).await;
    phone.expect_close(1001, SAID).await;
    silent.expect_close(1001, SAID).await;
    relay.expect_counts(1, 1).await;
    let after = get(&relay, &format!("/admin/slots/{slot}")).await;
    assert_eq!(after["state"], "grace");
    guest.send(&frame(5));
    elsewhere.expect_frame(&frame(5)).await;
    let (again, mut back, conn_id) = relay.pair("home").await;
    again.send_to(&conn_id, &frame(6));
    back.expect_frame(&frame(6)).await;
    let after = get(&relay, &format!("/admin/slots/{slot}")).await;
    assert_eq!(after["state"], "live", "the same name");
}

#[tokio::test]
async fn phones_that_wait_for_a_binary_can_be_closed() {
    let relay = relay(&["--boot-park", "60s"]).await;
    let mut early = relay.phone("home").await;
    early.send(&frame(1));
    relay.expect_counts(0, 1).await;
    let mut events = Events::open(&relay).await.unwrap();
    let slot = only_slot(&relay).await;
    let waiting = get(&relay, "/admin/slots?state=waiting").await;
    assert_eq!(waiting["slots"][0]["slot"], slot.as_str());
    let (status, body) = post(&relay, &format!("/admin/slots/{slot}/close")).await;
    assert_eq!((status, &body["closed"]), (202, &1.into()));
    early.expect_close(1001, SAID).await;
    // Nothing is left of it.
    eventually("no slot", || async {
        (get(&relay, "/admin/slots").await["total"] == 0).then_some(())
    })
    .await;
    let (status, _) = post(&relay, &format!("/admin/slots/{slot}/close")).await;
    assert_eq!(status, 404);
    let recent = events.next_named("recent").await;
    let end = recent.as_array().unwrap().iter().rev();
    let mut end = end.filter(|happening| happening["event"] == "phone_forwarder_read_end");
    let end = end.next().unwrap_or_else(|| panic!("{recent}"));
    assert!(
        end["detail"].as_str().unwrap().contains("operator"),
        "{end}"
    );
    assert_eq!(end["slot"], slot.as_str());
}
