//! The slots as pages of a list, and one by one.

use super::api::{Binary, Page, Phone, Slot, SlotDetail};
use crate::observe::metrics::Direction;
use crate::router::{Router, SlotHash, SlotSnapshot};
use crate::session::peer::{Leg, Peer, Route};
use relay_core::{Millis, SlotState};
use std::cmp::Ordering;

/// Slots of one page at most.
const LONGEST_PAGE: usize = 500;

/// By what a list is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Age,
    Phones,
    Queue,
    Slot,
}

/// Which slots, in which order, and how many of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    state: Option<SlotState>,
    sort: Sort,
    descending: bool,
    /// The beginning of a hash, or a whole server-id.
    text: String,
    offset: usize,
    limit: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            state: None,
            sort: Sort::Age,
            descending: true,
            text: String::new(),
            offset: 0,
            limit: 100,
        }
    }
}

impl Query {
    /// Reads the query of a request. A parameter without a value is as none.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut parsed = Self::default();
        for (name, value) in form(query) {
            let wrong = |fix: &str| Err(format!("{name}={value:?} cannot be used; {fix}"));
            match (&*name, &*value) {
                (_, "") => {}
                ("state", "live") => parsed.state = Some(SlotState::Live),
                ("state", "grace") => parsed.state = Some(SlotState::Grace),
                ("state", "waiting") => parsed.state = Some(SlotState::Waiting),
                ("state", _) => return wrong("write live, grace or waiting"),
                ("sort", "age") => parsed.sort = Sort::Age,
                ("sort", "phones") => parsed.sort = Sort::Phones,
                ("sort", "queue") => parsed.sort = Sort::Queue,
                ("sort", "slot") => parsed.sort = Sort::Slot,
                ("sort", _) => return wrong("write age, phones, queue or slot"),
                ("order", "asc") => parsed.descending = false,
                ("order", "desc") => parsed.descending = true,
                ("order", _) => return wrong("write asc or desc"),
                ("q", text) => parsed.text = text.to_owned(),
                ("offset", number) => match number.parse() {
                    Ok(number) => parsed.offset = number,
                    Err(_) => return wrong("write a whole number"),
                },
                ("limit", number) => match number.parse() {
                    Ok(number @ 1..=LONGEST_PAGE) => parsed.limit = number,
                    _ => return wrong("write a number from 1 to 500"),
                },
                _ => {}
            }
        }
        Ok(parsed)
    }

    fn matches(&self, slot: &SlotSnapshot) -> bool {
        let text = &*self.text;
        self.state.is_none_or(|state| state == slot.state)
            && (text.is_empty()
                || slot.server.as_str() == text
                || slot.hash.to_string().starts_with(text))
    }

    fn compare(&self, now: Millis, a: &Keyed, b: &Keyed) -> Ordering {
        let age = |slot: &Keyed| now.since(slot.0.since);
        let order = match self.sort {
            Sort::Age => age(a).cmp(&age(b)),
            Sort::Phones => a.0.phones.cmp(&b.0.phones),
            Sort::Queue => a.1.cmp(&b.1),
            Sort::Slot => Ordering::Equal,
        };
        // The hash makes the order total, so that no slot is on two pages of a list that does not change.
        let order = order.then(a.0.hash.cmp(&b.0.hash));
        match self.descending {
            true => order.reverse(),
            false => order,
        }
    }
}

/// A slot, and what is queued in it if the list is sorted by that.
type Keyed = (SlotSnapshot, usize);

/// The pairs of a query string, as browsers write forms.
fn form(query: &str) -> impl Iterator<Item = (String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

/// Without percent-encoding. What is none stays as it is.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.first_chunk::<2>().and_then(|digits| {
            let both = digits.iter().all(u8::is_ascii_hexdigit);
            let digits = str::from_utf8(digits).ok().filter(|_| both)?;
            u8::from_str_radix(digits, 16).ok()
        });
        (rest, _) = match (first, hex) {
            (b'%', Some(byte)) => (&after[2..], bytes.push(byte)),
            (b'+', _) => (after, bytes.push(b' ')),
            (byte, _) => (after, bytes.push(*byte)),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A page of the list.
pub(super) fn page(router: &Router, query: &Query) -> Page {
    let slots = router.slots();
    let total = slots.len();
    let mut matching: Vec<Keyed> = slots
        .into_iter()
        .filter(|slot| query.matches(slot))
        .map(|slot| {
            let queue_bytes = match query.sort {
                Sort::Queue => slot.queue_bytes(),
                _ => 0,
            };
            (slot, queue_bytes)
        })
        .collect();
    let now = router.clock.now();
    matching.sort_unstable_by(|a, b| query.compare(now, a, b));
    let shown = matching.iter().skip(query.offset).take(query.limit);
    Page {
        total,
        matching: matching.len(),
        offset: query.offset,
        slots: shown
            .map(|(slot, _)| described(router, slot, slot.phones))
            .collect(),
    }
}

/// One slot with everything in it.
pub(super) fn detail(router: &Router, hash: SlotHash) -> Option<SlotDetail> {
    let slot = router.slot(hash)?;
    let now = router.clock.now();
    let mut peers = slot.phones();
    peers.sort_by_key(|peer| peer.conn);
    let phones = peers.iter().filter_map(|peer| phone(peer, now)).collect();
    let holder = slot.holder.as_ref();
    Some(SlotDetail {
        binary: holder.map(|peer| binary(peer, now)),
        slot: described(router, &slot, phones),
    })
}

fn described<P>(router: &Router, slot: &SlotSnapshot, phones: P) -> Slot<P> {
    let holder = slot.holder.as_ref();
    let since_ms = router.clock.now().since(slot.since);
    Slot {
        slot: slot.hash.to_string(),
        server_id: shown_id(router, slot.server.as_str()),
        state: match slot.state {
            SlotState::Live => "live",
            SlotState::Grace => "grace",
            SlotState::Waiting => "waiting",
        },
        since_seconds: (since_ms / 100) as f64 / 10.0,
        phones,
        parked: slot.parked,
        queue_bytes: slot.queue_bytes(),
        version: holder.map(|peer| peer.label.to_string()),
        remote: holder.map(|peer| peer.remote.to_string()),
    }
}

/// A server-id, where it may be seen.
pub(super) fn shown_id(router: &Router, server: &str) -> Option<String> {
    router.config.admin_show_ids.then(|| server.to_owned())
}

fn binary(peer: &Peer, now: Millis) -> Binary {
    Binary {
        version: peer.label.to_string(),
        remote: peer.remote.to_string(),
        connected_seconds: peer.connected_seconds(now),
        queue_bytes: peer.queued_bytes(),
        resumable: peer.leg == Leg::Binary { resumable: true },
    }
}

fn phone(peer: &Peer, now: Millis) -> Option<Phone> {
    let Leg::Phone { suffix } = peer.leg else {
        return None;
    };
    let (up, down) = (Direction::phone_to_binary, Direction::binary_to_phone);
    Some(Phone {
        phone: format!("{suffix:08x}"),
        device_name: Some(peer.label.to_string()).filter(|name| !name.is_empty()),
        remote: peer.remote.to_string(),
        state: state(peer),
        connected_seconds: peer.connected_seconds(now),
        queue_bytes: peer.queued_bytes(),
        frames_up: peer.tally.count(up),
        frames_down: peer.tally.count(down),
        last_up_bytes: peer.tally.last_bytes(up),
        last_down_bytes: peer.tally.last_bytes(down),
    })
}

fn state(peer: &Peer) -> &'static str {
    if peer.is_ending() {
        return "closing";
    }
    match &peer.lock().route {
        Route::To(_) => "linked",
        Route::Parked(_) => "parked",
        Route::Ask => "waiting",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_it_wants() {
        assert_eq!(Query::parse(""), Ok(Query::default()));
        assert_eq!(Query::parse("state=&q=&other=1"), Ok(Query::default()));
        let all = "state=grace&sort=queue&order=asc&q=a%2Bb+c&offset=200&limit=500";
        let query = Query {
            state: Some(SlotState::Grace),
            sort: Sort::Queue,
            descending: false,
            text: "a+b c".into(),
            offset: 200,
            limit: 500,
        };
        assert_eq!(Query::parse(all), Ok(query));
    }

    #[test]
    fn a_query_that_cannot_be_read_is_refused_with_a_way_out() {
        for bad in [
            "state=dead",
            "sort=name",
            "order=up",
            "offset=-1",
            "offset=x",
            "limit=0",
            "limit=501",
        ] {
            let error = Query::parse(bad).unwrap_err();
            assert!(error.contains("; write "), "{error}");
        }
    }

    #[test]
    fn what_is_no_percent_encoding_stays() {
        for (text, expected) in [
            ("a%20b", "a b"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz", "%zz"),
            ("%+1", "% 1"),
            ("%c3%a4", "ä"),
            ("%ff", "\u{fffd}"),
        ] {
            assert_eq!(decoded(text), expected, "{text}");
        }
    }
}
