//! Which slots are asked for.

use std::fmt::Write as _;

/// A page of the slots that match, in an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) sort: Sort,
    pub(super) descending: bool,
    /// `None`: in any state.
    pub(super) state: Option<State>,
    /// The start of a slot's hash, or a whole server-id; empty: any.
    pub(super) search: String,
    /// How many come before the page.
    pub(super) offset: usize,
    /// How many are on the page.
    pub(super) limit: usize,
}

impl Default for Query {
    /// Those with the most phones.
    fn default() -> Self {
        Self {
            sort: Sort::Phones,
            descending: true,
            state: None,
            search: String::new(),
            offset: 0,
            limit: 20,
        }
    }
}

impl Query {
    /// What the relay allows on a page.
    pub(super) const MOST: usize = 500;

    /// The request's path.
    pub(super) fn path(&self) -> String {
        let order = if self.descending { "desc" } else { "asc" };
        let mut path = format!(
            "/admin/slots?sort={}&order={order}&offset={}&limit={}",
            self.sort.word(),
            self.offset,
            self.limit
        );
        if let Some(state) = self.state {
            path.push_str("&state=");
            path.push_str(state.word());
        }
        if !self.search.is_empty() {
            path.push_str("&q=");
            path.push_str(&escaped(&self.search));
        }
        path
    }
}

/// Percent-encoded (RFC 3986), all but the unreserved characters.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(byte.into())
            }
            // Writing to a text cannot fail.
            _ => drop(write!(escaped, "%{byte:02X}")),
        }
    }
    escaped
}

/// By what slots are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Phones,
    Queue,
    Age,
    Slot,
}

impl Sort {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Phones => "phones",
            Self::Queue => "queue",
            Self::Age => "age",
            Self::Slot => "slot",
        }
    }

    pub(super) fn next(self) -> Self {
        match self {
            Self::Phones => Self::Queue,
            Self::Queue => Self::Age,
            Self::Age => Self::Slot,
            Self::Slot => Self::Phones,
        }
    }
}

/// The states a slot can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Live,
    Grace,
    Waiting,
}

impl State {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Grace => "grace",
            Self::Waiting => "waiting",
        }
    }

    /// The next filter; `None` shows all.
    pub(super) fn after(filter: Option<Self>) -> Option<Self> {
        match filter {
            None => Some(Self::Live),
            Some(Self::Live) => Some(Self::Grace),
            Some(Self::Grace) => Some(Self::Waiting),
            Some(Self::Waiting) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_a_path_that_no_search_can_break() {
        let query = Query {
            state: Some(State::Grace),
            search: "a b&c=/é".to_owned(),
            offset: 40,
            ..Query::default()
        };
        assert_eq!(
            query.path(),
            "/admin/slots?sort=phones&order=desc&offset=40&limit=20&state=grace&q=a%20b%26c%3D%2F%C3%A9"
        );
        assert!(query.path().parse::<hyper::Uri>().is_ok());
    }

    #[test]
    fn sorts_and_filters_come_round() {
        let sorts: Vec<_> = std::iter::successors(Some(Sort::Phones), |s| Some(s.next()))
            .take(5)
            .collect();
        assert_eq!(sorts[0], sorts[4]);
        let filters: Vec<_> = std::iter::successors(Some(None), |&s| Some(State::after(s)))
            .take(5)
            .collect();
        assert_eq!(filters[4], None);
        assert!(filters[1..4].iter().all(Option::is_some));
    }
}
