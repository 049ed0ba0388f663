//! When nobody says anything: the relay holds what daemons and phones know of, and everything that was said has arrived.

use crate::book::{Book, Inner};
use crate::relay::Machine;
use pyrycode_relay::memory::Holdings;

/// Compares.
pub(crate) fn check(book: &Book, relay: &Machine, servers: usize) {
    let inner = book.open();
    let mut wrong = sessions(&inner);
    let daemons = inner.daemons.values();
    let binaries = daemons.filter(|daemon| daemon.conns.is_open).count();
    let phones = inner.phones.iter();
    let phones = phones.filter(|phone| phone.conns.is_open).count();
    drop(inner);
    let mut truth = Holdings::default();
    truth.counts.binaries = binaries;
    truth.counts.phones = phones;
    truth.peers = binaries + phones;
    truth.tables = servers;
    if binaries != servers {
        wrong.push(format!("{binaries} of {servers} daemons are connected"));
    }
    match relay.audit() {
        Some(holdings) if holdings != truth => {
            wrong.push(format!("the relay holds {holdings:?} instead of {truth:?}"));
        }
        _ => {}
    }
    wrong.extend(relay.page().unsettled(binaries, phones));
    for what in wrong {
        book.history.violation("settled", what);
    }
}

/// Every frame of a session that is alive has arrived.
fn sessions(inner: &Inner) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, phone) in inner.phones.iter().enumerate() {
        let session = (number, phone.conns.number());
        let daemon = inner
            .heard
            .get(&session)
            .and_then(|process| inner.daemons.get(process));
        let Some(spoken) = daemon.and_then(|daemon| daemon.sessions.get(&session)) else {
            wrong.push(format!("no daemon has heard of {session:?}"));
            continue;
        };
        if spoken.next != phone.sent {
            wrong.push(format!(
                "{session:?}: the phone sent {} frames, and {} arrived",
                phone.sent, spoken.next
            ));
        }
        if spoken.sent != phone.next {
            wrong.push(format!(
                "{session:?}: the daemon sent {} frames, and {} arrived",
                spoken.sent, phone.next
            ));
        }
    }
    let daemons = inner.daemons.values();
    for daemon in daemons.filter(|daemon| daemon.conns.is_open) {
        let connection = daemon.conns.number();
        for (session, spoken) in &daemon.sessions {
            let phone = &inner.phones[session.0];
            let is_present = phone.conns.is_open && phone.conns.number() == session.1;
            let is_open = spoken.notice.is_none() && spoken.directed.is_none();
            if is_open && !is_present && spoken.began == connection {
                wrong.push(format!("nobody told the daemon that {session:?} is over"));
            }
        }
    }
    wrong
}
