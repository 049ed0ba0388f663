//! What must hold at rest, whatever was done before.

use crate::book::{Result, ensure};
use crate::launch::PATIENCE;
use crate::report::{Order, Report};
use crate::stage::{Kind, Stage, Town};
use relay_sim::Page;
use std::collections::BTreeMap;

/// When everybody is silent: what was said in every session has arrived, both ways, and the relay knows exactly
/// those who know themselves connected. Returns how many frames came.
///
/// # Errors
/// What doesn't hold.
pub(crate) async fn settle(stage: &mut Stage, town: &mut Town) -> Result<u64> {
    town.tell(&Order::Hush).await?;
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut number = 0;
    let frames = loop {
        number += 1;
        town.tell(&Order::Report(number)).await?;
        let mut reports = BTreeMap::new();
        for member in town.members() {
            let process = member.process;
            let report = stage
                .book
                .wait("a report", PATIENCE, |inner| {
                    let (of, report) = inner.of(process).report.clone()?;
                    (of == number).then_some(report)
                })
                .await?;
            reports.insert(process, report);
        }
        let wrong = unsettled(town, &reports);
        if wrong.is_empty() {
            break reports.values().map(|report| report.frames).sum();
        }
        ensure(tokio::time::Instant::now() < until, || {
            format!(
                "{PATIENCE:?} after the last word it is still so that {}",
                wrong.join("; ")
            )
        })?;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let binaries = town.daemons.iter().filter(|daemon| daemon.is_up()).count();
    let phones = town.phones.iter().filter(|phone| phone.is_up()).count();
    stage.health.pause();
    let relay = &stage.relay;
    stage
        .until(PATIENCE, || async {
            Ok(relay.page().await?.unsettled(binaries, phones))
        })
        .await?;
    stage.health.resume();
    Ok(frames)
}

/// What has not arrived yet.
fn unsettled(town: &Town, reports: &BTreeMap<u64, Report>) -> Vec<String> {
    let mut wrong = Vec::new();
    for phone in town.phones.iter().filter(|phone| phone.is_up()) {
        let Kind::Phone { number } = phone.kind else {
            continue;
        };
        let said = &reports[&phone.process].sessions[0];
        if !said.is_open {
            wrong.push(format!("phone {number} is not connected"));
            continue;
        }
        let daemons = town.daemons.iter().filter(|daemon| daemon.is_up());
        let mut sessions = daemons.flat_map(|daemon| &reports[&daemon.process].sessions);
        let Some(heard) = sessions.find(|heard| heard.session == said.session) else {
            wrong.push(format!("no daemon has heard of {:?}", said.session));
            continue;
        };
        if heard.next != said.sent {
            let (sent, came) = (said.sent, heard.next);
            wrong.push(format!(
                "phone {number} sent {sent} frames, and {came} arrived"
            ));
        }
        if heard.sent != said.next {
            let (sent, came) = (heard.sent, said.next);
            wrong.push(format!(
                "phone {number} was sent {sent} frames, and {came} arrived"
            ));
        }
    }
    for daemon in town.daemons.iter().filter(|daemon| daemon.is_up()) {
        if !reports[&daemon.process].connected {
            wrong.push(format!("the daemon of {} is not connected", daemon.server));
        }
    }
    wrong
}

/// Where the page differs from that of a relay that everybody has left, and where two of its counters contradict each other.
pub(crate) fn nobody(page: &Page) -> Vec<String> {
    let mut wrong = page.lies(&[
        ("connected_binaries", 0),
        ("connected_phones", 0),
        ("connections", 0),
        ("slots{state=\"live\"}", 0),
        ("parked_phones", 0),
        ("handshakes", 0),
        ("queue_bytes", 0),
        ("limiter_entries{table=\"connections\"}", 0),
    ]);
    let mut same = |one: &str, other: &str, [said, and]: [f64; 2]| {
        if said != and {
            wrong.push(format!("{one} says {said}, and {other} {and}"));
        }
    };
    let ends = page.sum("connection_ends_total");
    let upgrades = page.get("accept_to_upgrade_seconds_count");
    same(
        "connection_ends_total",
        "accept_to_upgrade_seconds_count",
        [ends, upgrades],
    );
    let parked = page.get("phones_parked_total");
    let unparked = page.sum("phones_parked_ended_total");
    same(
        "phones_parked_total",
        "phones_parked_ended_total",
        [parked, unparked],
    );
    wrong
}

/// Nothing in the log is an error, or a panic.
///
/// # Errors
/// If something is.
pub(crate) fn log(text: &str) -> Result<()> {
    let bad = |line: &&str| line.contains("level=ERROR") || line.contains("panicked at");
    match text.lines().find(bad) {
        Some(line) => ensure(false, || format!("the log has: {line}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a relay that everybody has left.
    const PAGE: &str = "\
pyrycode_relay_connected_binaries 0
pyrycode_relay_connected_phones 0
pyrycode_relay_connections 0
pyrycode_relay_slots{state=\"live\"} 0
pyrycode_relay_parked_phones 0
pyrycode_relay_handshakes 0
pyrycode_relay_queue_bytes 0
";

    #[test]
    fn counters_that_contradict_each_other_are_found() {
        let page = |ends, parked| {
            let page = format!(
                "{PAGE}pyrycode_relay_limiter_entries{{table=\"connections\"}} 0
pyrycode_relay_connection_ends_total{{leg=\"phone\",cause=\"normal\",by=\"peer\"}} {ends}
pyrycode_relay_accept_to_upgrade_seconds_count 5
pyrycode_relay_phones_parked_total {parked}
pyrycode_relay_phones_parked_ended_total{{outcome=\"left\"}} 1
"
            );
            nobody(&Page::read(&page)).len()
        };
        assert_eq!(page(5, 1), 0);
        assert_eq!(page(4, 1), 1);
        assert_eq!(page(5, 2), 1);
    }

    #[test]
    fn an_error_in_the_log_is_found() {
        assert!(log("time=x level=INFO msg=fine\ntime=x level=WARN msg=so-so").is_ok());
        assert!(log("time=x level=ERROR msg=\"listener failed\"").is_err());
        assert!(log("thread 'main' panicked at src/main.rs:1:1:").is_err());
    }
}
