//! What port 80 answers to a CA that validates by HTTP-01 (RFC 8555, section 8.3).

use arc_swap::ArcSwapOption;
use hyper::StatusCode;
use std::sync::Arc;

const PREFIX: &str = "/.well-known/acme-challenge/";

/// The challenge that is under way, if one is.
pub(crate) struct Http01 {
    domain: String,
    challenge: ArcSwapOption<Challenge>,
}

struct Challenge {
    token: String,
    key_authorization: String,
}

impl Http01 {
    pub(super) fn new(domain: &str) -> Self {
        Self {
            domain: domain.to_ascii_lowercase(),
            challenge: ArcSwapOption::empty(),
        }
    }

    /// The answer to a GET with this `Host` and path: 200 with the body; 404 for everything that is not
    /// the challenge under way; 403 for a challenge of another host.
    pub(crate) fn answer(&self, host: Option<&str>, path: &str) -> (StatusCode, Option<String>) {
        let Some(token) = path.strip_prefix(PREFIX) else {
            return (StatusCode::NOT_FOUND, None);
        };
        let host = host.unwrap_or("");
        // A CA may be told to come to another port, and names it then.
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        if !name.eq_ignore_ascii_case(&self.domain) {
            return (StatusCode::FORBIDDEN, None);
        }
        match &*self.challenge.load() {
            Some(challenge) if challenge.token == token => {
                (StatusCode::OK, Some(challenge.key_authorization.clone()))
            }
            _ => (StatusCode::NOT_FOUND, None),
        }
    }

    pub(super) fn show(&self, token: &str, key_authorization: &str) {
        self.challenge.store(Some(Arc::new(Challenge {
            token: token.to_owned(),
            key_authorization: key_authorization.to_owned(),
        })));
    }

    pub(super) fn clear(&self) {
        self.challenge.store(None);
    }
}
