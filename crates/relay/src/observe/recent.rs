//! What just happened, for an operator who looks at the admin page: the records of the log that it shows.
//!
//! Who takes them does so once a second. Until then a fixed number is kept and the others are counted, so that a flood
//! of records costs a flood of additions. A conn_id contains the server-id, which is only shown on demand; only its
//! last part is kept.

use super::text::Record;
use super::vocabulary::{Event, Key};
use relay_core::phone_suffix;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Happenings that are kept until they are taken.
const KEPT: usize = 50;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Happening {
    pub(crate) at: SystemTime,
    pub(crate) event: Event,
    /// The server-id it is about.
    pub(crate) server: Option<String>,
    /// The last part of a phone's conn_id.
    pub(crate) phone: Option<String>,
    /// `key=value …`
    pub(crate) detail: String,
}

/// Those that nobody has taken yet.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    kept: Vec<Happening>,
    skipped: u64,
}

impl Recent {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Formatting a value could panic; what is there stays whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a record, if the page shows it.
    pub(super) fn note(&self, event: Event, fields: &[(Key, &dyn Display)]) {
        if !event.is_shown() {
            return;
        }
        let mut inner = self.lock();
        if inner.kept.len() < KEPT {
            inner.kept.push(Happening::new(event, fields));
        } else {
            inner.skipped += 1;
        }
    }

    /// Takes those that were kept since the last time, oldest first, and how many came after them.
    pub(crate) fn take(&self) -> (Vec<Happening>, u64) {
        let inner = std::mem::take(&mut *self.lock());
        (inner.kept, inner.skipped)
    }
}

impl Happening {
    fn new(event: Event, fields: &[(Key, &dyn Display)]) -> Self {
        let value = |key: Key| {
            let field = fields.iter().find(|(k, _)| *k == key);
            field.map(|(_, value)| value.to_string())
        };
        let server = value(Key::ServerId);
        let conn_id = value(Key::ConnId);
        let phone = server.as_ref().zip(conn_id);
        let phone = phone.and_then(|(server, conn_id)| phone_suffix(server, &conn_id));
        // Nothing of a conn_id that a binary made up.
        let phone = phone.map(|suffix| format!("{suffix:08x}"));
        let mut detail = Record::text();
        for (key, value) in fields.iter().filter(|(key, _)| is_shown(*key)) {
            let value = value.to_string();
            // Some are in quotes already; the record adds those that are needed.
            detail.push(key.name(), &value.trim_matches('"'), false);
        }
        let mut detail = detail.finish();
        // The end of the line.
        detail.pop();
        Self {
            at: SystemTime::now(),
            event,
            server,
            phone,
            detail,
        }
    }
}

/// Whether values of this key go into the detail. Server-ids and whatever contains them never do.
fn is_shown(key: Key) -> bool {
    matches!(
        key,
        Key::DeviceName
            | Key::Remote
            | Key::BinaryVersion
            | Key::Err
            | Key::Path
            | Key::CloseCode
            | Key::Listen
            | Key::Addr
            | Key::Count
            | Key::Fix
            | Key::Reason
            | Key::Domain
            | Key::Fingerprint
            | Key::NotAfter
            | Key::RetryIn
            | Key::Challenge
            | Key::EnvVar
            | Key::Project
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_happening_names_its_phone_and_nowhere_its_server_id() {
        let recent = Recent::default();
        let fields: [(Key, &dyn Display); 4] = [
            (Key::ServerId, &"home"),
            (Key::ConnId, &"client-home-00abcdef"),
            (Key::DeviceName, &"Anna's phone"),
            (Key::Remote, &"192.0.2.1"),
        ];
        recent.note(Event::PhoneRegistered, &fields);
        let (kept, skipped) = recent.take();
        assert_eq!((kept.len(), skipped), (1, 0));
        assert_eq!(kept[0].server.as_deref(), Some("home"));
        assert_eq!(kept[0].phone.as_deref(), Some("00abcdef"));
        assert_eq!(
            kept[0].detail,
            "device_name=\"Anna's phone\" remote=192.0.2.1"
        );
        assert_eq!(recent.take(), (vec![], 0));
    }

    #[test]
    fn a_conn_id_that_is_none_is_not_kept() {
        for conn_id in [
            "client-other-00abcdef",
            "client-home-00ABCDEF",
            "home",
            "client-home-00abcdef0",
        ] {
            let fields: [(Key, &dyn Display); 2] =
                [(Key::ServerId, &"home"), (Key::ConnId, &conn_id)];
            let happening = Happening::new(Event::PhoneRegistered, &fields);
            assert_eq!(happening.phone, None, "{conn_id}");
        }
        let fields: [(Key, &dyn Display); 2] = [
            (Key::ServerId, &"home"),
            (Key::BinaryConnId, &"server-home-1"),
        ];
        let happening = Happening::new(Event::BinaryForwarderReadEnd, &fields);
        assert_eq!((happening.phone, happening.detail), (None, String::new()));
    }

    #[test]
    fn only_what_the_page_shows_is_kept() {
        let recent = Recent::default();
        for event in Event::ALL {
            recent.note(*event, &[]);
        }
        let shown = Event::ALL.iter().filter(|event| event.is_shown()).count();
        let (kept, skipped) = recent.take();
        assert_eq!(kept.len() + skipped as usize, shown);
        assert!(kept.iter().all(|happening| happening.event.is_shown()));
        assert!(shown < Event::ALL.len());
    }

    /// But for who it is about, which the page has beside it.
    #[test]
    fn what_an_event_tells_is_shown_with_it() {
        let beside = [Key::ServerId, Key::ConnId, Key::BinaryConnId];
        // What is of use beside other records of a wake; and what keeps a relay from starting, and its page with it.
        let in_the_log = [
            [Key::TokenFp, Key::Duration, Key::FcmMessageId],
            [Key::Value, Key::BypassEnvVar, Key::EffectiveUid],
        ]
        .concat();
        let unshown: Vec<_> = Event::ALL
            .iter()
            .filter(|event| event.is_shown())
            .flat_map(|event| event.keys().iter().map(move |key| (*event, *key)))
            .filter(|(_, key)| {
                !is_shown(*key) && !beside.contains(key) && !in_the_log.contains(key)
            })
            .collect();
        assert_eq!(unshown, []);
    }

    #[test]
    fn a_flood_is_counted_and_costs_no_formatting() {
        struct Formatted<'a>(&'a std::cell::Cell<u32>);
        impl Display for Formatted<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.set(self.0.get() + 1);
                f.write_str("192.0.2.1")
            }
        }
        let (recent, formatted) = (Recent::default(), std::cell::Cell::new(0));
        for _ in 0..10_000 {
            recent.note(Event::RateLimited, &[(Key::Remote, &Formatted(&formatted))]);
        }
        let (kept, skipped) = recent.take();
        assert_eq!((kept.len(), skipped), (KEPT, 10_000 - KEPT as u64));
        assert_eq!(formatted.get(), KEPT as u32);
    }
}
