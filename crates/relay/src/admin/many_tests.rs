//! Ten thousand slots with a hundred thousand phones, without their sockets.

use super::slots::{Query, detail, page};
use crate::router::{Router, Seat, SlotHash};
use relay_core::{Millis, ServerId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SLOTS: usize = 10_000;
const PHONES: usize = 10;

fn server(n: usize) -> ServerId {
    ServerId::new(&format!("home-{n:05}"))
}

fn crowded() -> (Arc<Router>, Vec<Seat>) {
    let router = Router::silent();
    let mut seats = Vec::with_capacity(SLOTS * (1 + PHONES));
    for n in 0..SLOTS {
        let server = server(n);
        seats.push(router.claim(&server, "1.2.3".into(), None, "192.0.2.1"));
        for _ in 0..PHONES {
            let seat = router.phone_seat(&server, "a phone".into(), "192.0.2.2");
            seat.register();
            seats.push(seat);
        }
    }
    (router, seats)
}

/// How long it takes to get at the registry at most, as every claim and every phone's first frame must, until `over`.
fn longest_wait(router: &Router, over: &AtomicBool) -> Duration {
    let server = server(SLOTS / 2);
    let mut longest = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        // What a dial asks before its upgrade.
        let _ = router.may_claim(&server);
        longest = longest.max(start.elapsed());
        std::thread::yield_now();
    }
    longest
}

#[test]
fn a_list_of_ten_thousand_slots_comes_soon_and_holds_nobody_up() {
    let (router, seats) = crowded();
    let counts = router.counts();
    assert_eq!((counts.binaries, counts.phones), (SLOTS, SLOTS * PHONES));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| longest_wait(&router, &over));
        for query in [
            "",
            "sort=phones",
            "sort=queue&limit=500",
            "sort=slot&order=asc&offset=9900",
            "q=home-07777",
            "q=0",
        ] {
            let parsed = Query::parse(query).unwrap();
            let took = (0..3).map(|_| {
                let start = Instant::now();
                let page = page(&router, &parsed);
                assert_eq!(page.total, SLOTS);
                start.elapsed()
            });
            let took = took.min().unwrap_or_default();
            eprintln!("{query:>40}: {took:?}");
            // Milliseconds with an optimizing compiler; without one, on a machine that does other things, too.
            assert!(took < Duration::from_secs(2), "{query}: {took:?}");
        }
        let last = page(&router, &Query::parse("q=home-09999").unwrap());
        let hash = SlotHash::parse(&last.slots[0].slot).unwrap();
        let start = Instant::now();
        let found = detail(&router, hash).unwrap();
        eprintln!("one slot: {:?}", start.elapsed());
        assert_eq!(found.slot.phones.len(), PHONES);
        over.store(true, Ordering::Relaxed);
        let longest = waiting.join().unwrap();
        eprintln!("longest wait for the registry: {longest:?}");
        // A list of all slots at once would take the registry for as long as the whole list takes.
        assert!(longest < Duration::from_millis(500), "{longest:?}");
    });
    assert!(router.uptime() > Millis::ZERO);
    drop(seats);
}
