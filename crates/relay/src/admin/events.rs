//! The stream of server-sent events: one writer, any number of readers up to [`STREAMS`]. A reader that is slow misses
//! events, and costs nobody anything but its own queue.

use super::api::{Happening, History, Sample};
use super::sampler::KEPT;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use serde::Serialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Streams at once: some pages of some operators.
pub(super) const STREAMS: usize = 16;

/// Events that wait for one reader at most, a few seconds of them.
const QUEUE: usize = 8;

/// Happenings a new reader is told.
const HAPPENINGS: usize = 100;

/// What all readers see.
#[derive(Debug, Default)]
pub(super) struct Feed(Mutex<Inner>);

/// What was published before a reader came.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) last: Sample,
    pub(super) history: History,
    /// Oldest first.
    pub(super) happenings: Vec<Happening>,
}

#[derive(Debug, Default)]
struct Inner {
    history: VecDeque<Sample>,
    happenings: VecDeque<Happening>,
    readers: Vec<mpsc::Sender<Bytes>>,
    over: bool,
}

impl Feed {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Serializing could panic, on nothing that is serialized here; the state stays whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last sample.
    pub(super) fn last(&self) -> Sample {
        self.lock().history.back().copied().unwrap_or_default()
    }

    /// All samples that are kept, oldest first.
    pub(super) fn history(&self) -> History {
        self.lock().history.iter().collect()
    }

    /// Adds a sample and what happened since the last one. `summary` is only made if somebody reads.
    pub(super) fn publish<S: Serialize>(
        &self,
        sample: Sample,
        happenings: Vec<Happening>,
        skipped: u64,
        summary: impl FnOnce(Sample) -> S,
    ) {
        let mut inner = self.lock();
        push(&mut inner.history, sample, KEPT);
        let recent = (!happenings.is_empty()).then(|| recent(&happenings, skipped));
        for happening in happenings {
            push(&mut inner.happenings, happening, HAPPENINGS);
        }
        inner.readers.retain(|reader| !reader.is_closed());
        // Who joins from here on has all of it in its hello.
        let readers = inner.readers.clone();
        // Not under the lock: asking how things are may take others.
        drop(inner);
        if readers.is_empty() {
            return;
        }
        let events = [Some(event("sample", &summary(sample))), recent];
        for event in events.into_iter().flatten() {
            for reader in &readers {
                // One that is slow misses it; one that has left is forgotten the next time.
                let _ = reader.try_send(event.clone());
            }
        }
    }

    /// A further reader, which is told `hello` first. `None`: there are [`STREAMS`] already, or there will be no more
    /// events. `taken` counts what the reader has taken.
    pub(super) fn join<S: Serialize>(
        &self,
        taken: Arc<AtomicU64>,
        hello: impl FnOnce(Past) -> S,
    ) -> Option<Stream> {
        let (sender, queue) = mpsc::channel(QUEUE);
        let mut inner = self.lock();
        inner.readers.retain(|reader| !reader.is_closed());
        if inner.over || inner.readers.len() >= STREAMS {
            return None;
        }
        inner.readers.push(sender);
        let past = Past {
            last: inner.history.back().copied().unwrap_or_default(),
            history: inner.history.iter().collect(),
            happenings: inner.happenings.iter().cloned().collect(),
        };
        drop(inner);
        // An event that comes before this is ready waits in the queue.
        let hello = event("hello", &hello(past));
        let hello = [b"retry: 2000\n", &hello[..]].concat().into();
        Some(Stream {
            hello: Some(hello),
            queue,
            taken,
        })
    }

    /// Ends every stream when its reader has got what waits for it.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        inner.over = true;
        inner.readers.clear();
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// JSON has no line breaks outside of strings, and escapes those inside: it is one line of data.
fn event(name: &str, data: &impl Serialize) -> Bytes {
    // Serializing these types cannot fail: all keys are strings, all numbers finite.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}

fn recent(happenings: &[Happening], skipped: u64) -> Bytes {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Element<'a> {
        Happening(&'a Happening),
        Skipped { skipped: u64 },
    }
    let skipped = (skipped > 0).then_some(Element::Skipped { skipped });
    let happenings = happenings.iter().map(Element::Happening);
    event("recent", &happenings.chain(skipped).collect::<Vec<_>>())
}

/// The body of an answer that goes on.
#[derive(Debug)]
pub(super) struct Stream {
    hello: Option<Bytes>,
    queue: mpsc::Receiver<Bytes>,
    taken: Arc<AtomicU64>,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.hello.take() {
            Some(hello) => Poll::Ready(Some(hello)),
            None => self.queue.poll_recv(cx),
        };
        if matches!(next, Poll::Ready(Some(_))) {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        next.map(|event| event.map(|event| Ok(Frame::data(event))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    fn sample(t: u64) -> Sample {
        Sample {
            t,
            ..Sample::default()
        }
    }

    fn happening(n: u64) -> Happening {
        Happening {
            t: n,
            event: "server_claimed",
            level: "info",
            slot: None,
            server_id: None,
            phone: None,
            detail: "a\nb".into(),
        }
    }

    fn join(feed: &Feed) -> Option<Stream> {
        feed.join(Arc::default(), |_| "hi")
    }

    fn publish(feed: &Feed, t: u64) {
        feed.publish(sample(t), vec![], 0, |sample| sample.t);
    }

    async fn next(stream: &mut Stream) -> Option<String> {
        let frame = stream.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_reader_is_told_everything_from_its_hello_on() {
        let feed = Feed::default();
        publish(&feed, 1);
        let mut stream = join(&feed).unwrap();
        publish(&feed, 2);
        feed.publish(sample(3), vec![happening(7)], 4, |sample| sample.t);
        feed.end();
        let hello = "retry: 2000\nevent: hello\ndata: \"hi\"\n\n";
        assert_eq!(next(&mut stream).await.as_deref(), Some(hello));
        let second = "event: sample\ndata: 2\n\n";
        assert_eq!(next(&mut stream).await.as_deref(), Some(second));
        assert!(next(&mut stream).await.unwrap().ends_with("data: 3\n\n"));
        let recent = next(&mut stream).await.unwrap();
        let data = recent.strip_prefix("event: recent\ndata: ").unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!((&data[0]["t"], &data[1]["skipped"]), (&7.into(), &4.into()));
        assert_eq!(recent.matches('\n').count(), 3, "{recent}");
        assert_eq!(next(&mut stream).await, None);
    }

    #[tokio::test]
    async fn who_joins_while_something_is_published_is_told_it_once() {
        let feed = Feed::default();
        let first = join(&feed).unwrap();
        let mut second = None;
        feed.publish(sample(1), vec![happening(1)], 0, |sample| {
            second = feed.join(Arc::default(), |past| {
                assert_eq!((past.last.t, past.happenings.len()), (1, 1));
                "hi"
            });
            sample.t
        });
        feed.end();
        let mut told = Vec::new();
        for mut stream in [first, second.unwrap()] {
            let mut events = 0;
            while next(&mut stream).await.is_some() {
                events += 1;
            }
            told.push(events);
        }
        assert_eq!(told, [3, 1], "a hello, and what came after it");
    }

    #[tokio::test]
    async fn a_slow_reader_misses_events_and_delays_nobody() {
        let feed = Feed::default();
        let mut slow = join(&feed).unwrap();
        for t in 0..1_000 {
            publish(&feed, t);
        }
        feed.end();
        let mut got = 0;
        while next(&mut slow).await.is_some() {
            got += 1;
        }
        assert_eq!(got, 1 + QUEUE);
    }

    #[test]
    fn there_is_a_most_of_readers_and_their_places_come_back() {
        let feed = Feed::default();
        let mut streams: Vec<_> = (0..STREAMS).map(|_| join(&feed).unwrap()).collect();
        assert!(join(&feed).is_none());
        streams.pop();
        assert!(join(&feed).is_some());
        feed.end();
        assert!(join(&feed).is_none());
    }

    #[test]
    fn a_summary_is_only_made_for_somebody_who_reads() {
        let feed = Feed::default();
        drop(join(&feed));
        feed.publish(sample(1), vec![], 0, |_| panic!("nobody reads") as u32);
        assert_eq!(feed.last().t, 1);
    }

    #[test]
    fn samples_and_happenings_are_bounded() {
        let feed = Feed::default();
        for t in 0..2_000 {
            feed.publish(sample(t), vec![happening(t)], 0, |sample| sample.t);
        }
        let history = serde_json::to_value(feed.history()).unwrap();
        let t = history["t"].as_array().unwrap();
        assert_eq!((t.len(), &t[0]), (KEPT, &1_100.into()));
        feed.join(Arc::default(), |past| {
            assert_eq!(past.last.t, 1_999);
            let happenings = past.happenings;
            assert_eq!((happenings.len(), happenings[0].t), (HAPPENINGS, 1_900));
        });
    }
}
