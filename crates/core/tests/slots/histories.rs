//! Random histories of two server-ids, against the model of a shell. A failing one shrinks, and prints as one line
//! per event.

use std::fmt;

use proptest::prelude::*;
use relay_core::{Conn, Counts, Path, Policy, ServerId};

use crate::shell::{Role, Shell};

#[derive(Clone, Debug)]
enum Event {
    Claim { server: usize, instance: Option<u8> },
    BinaryEnds { nth: usize },
    Register { server: usize },
    Frame { nth: usize },
    PhoneEnds { nth: usize, directed: bool },
    Pong { server: usize, missed: usize },
    PathsAre(Path),
    Wait { ms: u64 },
    Oversleep { ms: u64 },
}

#[derive(Clone)]
struct History(Vec<Event>);

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .enumerate()
            .try_for_each(|(n, event)| write!(f, "\n{n:4}  {event:?}"))
    }
}

fn event() -> impl Strategy<Value = Event> {
    let server = || 0usize..2;
    let nth = || 0usize..6;
    let ms = || {
        prop_oneof![
            0u64..4,
            Just(500),
            Just(2_000),
            7_990u64..8_010,
            9_990u64..10_010,
            Just(30_000)
        ]
    };
    let path = prop_oneof![
        Just(Path::Unknown),
        Just(Path::Acknowledged),
        (0u64..4_000).prop_map(|for_ms| Path::Silent { for_ms }),
    ];
    prop_oneof![
        4 => (server(), prop::option::of(1u8..3))
            .prop_map(|(server, instance)| Event::Claim { server, instance }),
        3 => nth().prop_map(|nth| Event::BinaryEnds { nth }),
        4 => server().prop_map(|server| Event::Register { server }),
        8 => nth().prop_map(|nth| Event::Frame { nth }),
        3 => (nth(), any::<bool>()).prop_map(|(nth, directed)| Event::PhoneEnds { nth, directed }),
        2 => (server(), 0usize..3).prop_map(|(server, missed)| Event::Pong { server, missed }),
        1 => path.prop_map(Event::PathsAre),
        4 => ms().prop_map(|ms| Event::Wait { ms }),
        1 => ms().prop_map(|ms| Event::Oversleep { ms }),
    ]
}

fn history() -> impl Strategy<Value = History> {
    prop::collection::vec(event(), 1..80).prop_map(History)
}

fn policy() -> impl Strategy<Value = Policy> {
    let parks = prop_oneof![3 => Just(8_000), 1 => Just(0)];
    (parks, 1usize..4).prop_map(|(park_ms, phones_per_server)| Policy {
        park_ms,
        phones_per_server,
        ..Policy::default()
    })
}

fn server(n: usize) -> ServerId {
    ServerId::new(["left", "right"][n])
}

/// The nth of the connections that are open, counted round.
fn pick(open: Vec<Conn>, nth: usize) -> Option<Conn> {
    (!open.is_empty()).then(|| open[nth % open.len()])
}

fn open_binaries(shell: &Shell) -> Vec<Conn> {
    shell
        .binaries
        .iter()
        .filter(|(_, binary)| binary.open)
        .map(|(conn, _)| *conn)
        .collect()
}

fn open_phones(shell: &Shell) -> Vec<Conn> {
    shell
        .phones
        .iter()
        .filter(|(_, phone)| phone.open)
        .map(|(conn, _)| *conn)
        .collect()
}

fn play(shell: &mut Shell, event: &Event) {
    match *event {
        Event::Claim {
            server: n,
            instance,
        } => shell.claim(&server(n), instance),
        Event::BinaryEnds { nth } => {
            pick(open_binaries(shell), nth)
                .into_iter()
                .for_each(|conn| shell.end_binary(conn));
        }
        Event::Register { server: n } => shell.register(&server(n)),
        Event::Frame { nth } => {
            pick(open_phones(shell), nth)
                .into_iter()
                .for_each(|conn| shell.frame(conn));
        }
        Event::PhoneEnds { nth, directed } => {
            let phone = pick(open_phones(shell), nth);
            phone
                .into_iter()
                .for_each(|conn| shell.end_phone(conn, directed));
        }
        Event::Pong { server: n, missed } => shell.pong(&server(n), missed),
        Event::PathsAre(path) => shell.path = path,
        Event::Wait { ms } => shell.wait(ms),
        Event::Oversleep { ms } => shell.oversleep(ms),
    }
}

/// When nothing more happens, every wait ends; when everybody leaves, nothing stays.
fn settle(shell: &mut Shell) {
    shell.wait(10_000 * (shell.binaries.len() as u64 + 1));
    assert!(
        shell
            .binaries
            .values()
            .all(|binary| binary.role != Role::Waiting),
        "all are answered"
    );
    assert_eq!(shell.hub.counts().parked, 0);
    for conn in open_binaries(shell) {
        shell.end_binary(conn);
    }
    shell.wait(30_000);
    assert_eq!(shell.hub.counts(), Counts::default());
    assert_eq!(shell.hub.deadline(), None, "no timer outlives its meaning");
    assert!(
        shell.phones.values().all(|phone| !phone.departed),
        "nobody is kept"
    );
    for conn in open_phones(shell) {
        shell.end_phone(conn, false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_invariants_hold(policy in policy(), history in history()) {
        let mut shell = Shell::new(policy);
        for event in &history.0 {
            play(&mut shell, event);
        }
        settle(&mut shell);
    }
}
