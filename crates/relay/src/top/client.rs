//! Asks the relay. Every answer is of bounded size, and comes in time or is given up.

use super::api::{Detail, Page, Summary, Text};
use super::model::{Answer, Question, Update};
use super::query::{Query, escaped};
use super::sse::{Event, Reader};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// For a whole answer, with the connection it needs first.
const ANSWER: Duration = Duration::from_secs(5);

/// The relay sends something each second: this much silence means that it is gone.
const SILENCE: Duration = Duration::from_secs(5);

/// Bytes of an answer, or of an event. A quarter of an hour of history has less than a tenth.
const MOST: usize = 4 << 20;

/// Which relay is asked: the origin of its metrics listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source(String);

/// Why a text names no relay.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SourceError {
    #[error(
        "the metrics listener speaks plain HTTP; write http://, and reach it through an SSH tunnel from elsewhere"
    )]
    Scheme,
    #[error("write the address of the relay's metrics listener, like http://127.0.0.1:9090")]
    Address,
}

impl Source {
    /// From `http://host:port` or `host:port`. Whoever copies the URL of the admin page means the same relay, so a
    /// path is left out.
    pub(super) fn parse(text: &str) -> Result<Self, SourceError> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(SourceError::Scheme);
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let origin = format!("http://{authority}");
        let uri: Uri = origin.parse().map_err(|_| SourceError::Address)?;
        match (uri.host(), uri.port_u16()) {
            (Some(host), Some(port))
                if !host.is_empty() && port > 0 && !authority.contains('@') =>
            {
                Ok(Self(origin))
            }
            _ => Err(SourceError::Address),
        }
    }
}

impl From<SocketAddr> for Source {
    fn from(address: SocketAddr) -> Self {
        Self(format!("http://{address}"))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(
        "nothing answers at {0}: {1}; start the relay, or, if it runs, give the address of its --metrics-listen \
         (an empty one turns it off): pyrycode-relay top http://ADDRESS:PORT"
    )]
    Unreachable(Source, String),
    #[error(
        "what answers at {0} has no admin page (404); if it is a relay, it is older than this program: update it; \
         else give the address of the relay's --metrics-listen"
    )]
    TooOld(Source),
    #[error("{0} refuses: {1}")]
    Refused(Source, Text),
    #[error(
        "what answers at {0} is no relay ({1}); give the address of the relay's --metrics-listen"
    )]
    NoRelay(Source, String),
}

impl Failure {
    /// In a few words, for a line that has said already which relay is meant.
    pub(super) fn short(&self) -> String {
        match self {
            Self::Unreachable(_, why) | Self::NoRelay(_, why) => why.clone(),
            Self::TooOld(_) => "it has no admin page".to_owned(),
            Self::Refused(_, why) => why.to_string(),
        }
    }
}

/// Asks one relay.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) source: Source,
    http: HttpClient<HttpConnector, Empty<Bytes>>,
}

#[derive(Deserialize)]
struct Complaint {
    error: Text,
}

impl Client {
    pub(super) fn new(source: Source) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        // A relay that restarted answers on none of its old connections.
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(tcp);
        Self { source, http }
    }

    /// The summary, and the bytes it was read from.
    pub(super) async fn summary(&self) -> Result<(Summary, Bytes), Failure> {
        let bytes = self.get("/admin/summary").await?;
        Ok((self.checked(self.read(&bytes)?)?, bytes))
    }

    /// Slots, one page of them.
    pub(super) async fn slots(&self, query: &Query) -> Result<Page, Failure> {
        self.read(&self.get(&query.path()).await?)
    }

    /// What is to be shown beside the figures.
    pub(super) async fn ask(&self, question: &Question) -> Result<Answer, Failure> {
        match question {
            Question::Slots(query) => self.slots(query).await.map(Answer::Slots),
            Question::Slot(slot) => {
                match self.get(&format!("/admin/slots/{}", escaped(slot))).await {
                    Ok(bytes) => Ok(Answer::Slot(Some(self.read::<Detail>(&bytes)?))),
                    // The slot has ended; a relay without slots would have been found out before.
                    Err(Failure::TooOld(_)) => Ok(Answer::Slot(None)),
                    Err(failure) => Err(failure),
                }
            }
        }
    }

    /// Sends what the stream of events tells, until it ends, which is always a failure. `None`: nobody listens.
    pub(super) async fn follow(&self, news: &Sender<Update>) -> Option<Failure> {
        self.stream(news).await.err()
    }

    /// `Ok`: nobody listens.
    async fn stream(&self, news: &Sender<Update>) -> Result<(), Failure> {
        let response = self.request("/admin/events", "text/event-stream").await?;
        let response = self.accepted(response, "/admin/events").await?;
        let mut body = response.into_body();
        let mut reader = Reader::new(MOST);
        loop {
            let frame = tokio::time::timeout(SILENCE, body.frame()).await;
            let frame = frame
                .map_err(|_| self.unreachable("it has fallen silent"))?
                .ok_or_else(|| self.unreachable("it ended the connection"))?
                .map_err(|error| self.broken(&error))?;
            let Some(piece) = frame.data_ref() else {
                continue;
            };
            let events = reader.read(piece).map_err(|error| self.no_relay(error))?;
            for event in events {
                if let Some(update) = self.update(&event)?
                    && news.send(update).await.is_err()
                {
                    return Ok(());
                }
            }
        }
    }

    fn update(&self, event: &Event) -> Result<Option<Update>, Failure> {
        let data = event.data.as_bytes();
        Ok(match &*event.name {
            "hello" => Some(Update::Hello(Box::new(self.checked(self.read(data)?)?))),
            "sample" => Some(Update::Sample(Box::new(self.checked(self.read(data)?)?))),
            "recent" => Some(Update::Recent(self.read(data)?)),
            // Of a newer relay.
            _ => None,
        })
    }

    async fn get(&self, path: &str) -> Result<Bytes, Failure> {
        let answer = async {
            let response = self.request(path, "application/json").await?;
            let response = self.accepted(response, path).await?;
            self.body(response).await
        };
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(self.unreachable(too_late())),
        }
    }

    async fn request(
        &self,
        path: &str,
        accept: &'static str,
    ) -> Result<Response<Incoming>, Failure> {
        let request = Request::get(format!("{}{path}", self.source))
            .header(ACCEPT, accept)
            .header(
                USER_AGENT,
                concat!("pyrycode-relay/", env!("CARGO_PKG_VERSION")),
            )
            .body(Empty::new())
            .map_err(|error| self.no_relay(error))?;
        match tokio::time::timeout(ANSWER, self.http.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.broken(&error)),
            Err(_) => Err(self.unreachable(too_late())),
        }
    }

    /// The response, if it is a 200.
    async fn accepted(
        &self,
        response: Response<Incoming>,
        path: &str,
    ) -> Result<Response<Incoming>, Failure> {
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response);
        }
        let body = self.body(response).await?;
        let complaint: Option<Complaint> = serde_json::from_slice(&body).ok();
        Err(match (status, complaint) {
            (StatusCode::NOT_FOUND, _) => Failure::TooOld(self.source.clone()),
            (_, Some(complaint)) => Failure::Refused(self.source.clone(), complaint.error),
            _ => self.no_relay(format!("HTTP {status} for {path}")),
        })
    }

    async fn body(&self, response: Response<Incoming>) -> Result<Bytes, Failure> {
        match Limited::new(response.into_body(), MOST).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(self.broken(&*error)),
        }
    }

    fn read<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(bytes)
            .map_err(|error| self.no_relay(format!("its answer cannot be read: {error}")))
    }

    /// Every relay has a version and a phase; any other JSON would pass for a summary full of zeroes.
    fn checked(&self, summary: Summary) -> Result<Summary, Failure> {
        match summary.version.as_str().is_empty() || summary.phase.as_str().is_empty() {
            true => Err(self.no_relay("its summary names no version")),
            false => Ok(summary),
        }
    }

    /// The exchange failed: nobody speaks there, or nobody who speaks HTTP of a bearable size.
    fn broken(&self, error: &(dyn Error + 'static)) -> Failure {
        let mut chain = std::iter::successors(Some(error), |&error| error.source());
        let no_relay = chain.any(|error| {
            error.is::<LengthLimitError>()
                || error.downcast_ref().is_some_and(hyper::Error::is_parse)
        });
        // It may quote what was received.
        let why = Text::new(&root(error).to_string());
        match no_relay {
            true => self.no_relay(why),
            false => self.unreachable(why),
        }
    }

    fn unreachable(&self, why: impl fmt::Display) -> Failure {
        Failure::Unreachable(self.source.clone(), why.to_string())
    }

    fn no_relay(&self, why: impl fmt::Display) -> Failure {
        Failure::NoRelay(self.source.clone(), why.to_string())
    }
}

fn too_late() -> String {
    format!("no answer within {} s", ANSWER.as_secs())
}

/// What caused it all: the outer errors only say that something failed.
fn root<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    std::iter::successors(Some(error), |&error| error.source())
        .last()
        .unwrap_or(error)
}

#[cfg(test)]
mod tests;
