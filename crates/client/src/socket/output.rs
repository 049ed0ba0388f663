//! What a connection has to say, and in which order it leaves.

use std::io;

use relay_proto::ws::{self, Control, MAX_CONTROL_BYTES};

/// Messages leave in the order in which they were taken. The answer to a ping goes before those that were taken while
/// earlier ones were being written, so that a sender who never stops cannot hold it up; the answer to a Close goes behind
/// everything.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// What is being written, and how much of it is.
    current: Vec<u8>,
    written: usize,
    /// What was taken meanwhile.
    next: Vec<u8>,
    /// The reply to the newest ping. It replaces an older one that is still waiting, so a flood of pings costs no memory.
    pong: Option<Vec<u8>>,
    /// The code to answer the peer's Close with (1005: with an empty one).
    close_answer: Option<u16>,
    close_taken: bool,
}

impl Output {
    /// Takes a message. After a Close it is dropped, as RFC 6455 §5.5.1 demands.
    ///
    /// # Errors
    /// As all that take something: only if the operating system has no randomness for the mask.
    pub(super) fn text(&mut self, payload: &[u8]) -> io::Result<()> {
        if !self.close_taken {
            ws::client::masked_text(payload, mask_key()?, &mut self.next);
        }
        Ok(())
    }

    /// Takes a ping, to leave as a message does.
    ///
    /// # Errors
    /// `InvalidInput` for more than a ping may carry. Otherwise see [`text`](Self::text).
    pub(super) fn ping(&mut self, payload: &[u8]) -> io::Result<()> {
        if payload.len() > MAX_CONTROL_BYTES {
            let why = format!("a ping carries at most {MAX_CONTROL_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        if !self.close_taken {
            ws::client::masked_control(Control::Ping, payload, mask_key()?, &mut self.next);
        }
        Ok(())
    }

    /// Takes the only Close; any later one is dropped. A `code` no Close may carry goes out as an empty one.
    pub(super) fn close(&mut self, code: u16, reason: &str) -> io::Result<()> {
        if self.close_taken {
            return Ok(());
        }
        let key = mask_key()?;
        if !ws::client::masked_close(code, reason, key, &mut self.next) {
            ws::client::masked_control(Control::Close, b"", key, &mut self.next);
        }
        self.close_taken = true;
        Ok(())
    }

    /// The peer pinged.
    pub(super) fn answer_ping(&mut self, payload: &[u8]) {
        self.pong = Some(payload.to_vec());
    }

    /// The peer closed.
    pub(super) fn answer_close(&mut self, code: u16) {
        self.close_answer = Some(code);
    }

    /// Bytes that wait, without the answers.
    pub(super) fn len(&self) -> usize {
        self.current.len() - self.written + self.next.len()
    }

    /// What to write now; empty when nothing waits.
    ///
    /// # Errors
    /// See [`text`](Self::text).
    pub(super) fn unwritten(&mut self) -> io::Result<&[u8]> {
        if self.written == self.current.len() {
            self.current.clear();
            self.written = 0;
            if let Some(payload) = self.pong.take()
                && !self.close_taken
            {
                let key = mask_key()?;
                ws::client::masked_control(Control::Pong, &payload, key, &mut self.current);
            }
            if let Some(code) = self.close_answer.take() {
                self.close(code, "")?;
            }
            if self.current.is_empty() {
                std::mem::swap(&mut self.current, &mut self.next);
            } else {
                self.current.append(&mut self.next);
            }
        }
        Ok(&self.current[self.written..])
    }

    /// So many of those bytes have left.
    pub(super) fn wrote(&mut self, count: usize) {
        self.written += count;
        debug_assert!(self.written <= self.current.len());
    }
}

/// A fresh, unpredictable mask for each frame (RFC 6455 §5.3).
fn mask_key() -> io::Result<[u8; 4]> {
    let mut key = [0; 4];
    getrandom::fill(&mut key).map_err(|_| io::Error::other("no randomness"))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use relay_proto::ws::{Decoder, Event, Limits, Role, Utf8};

    use super::*;

    /// What a peer understands of the bytes so far.
    struct Peer(Decoder);

    impl Peer {
        fn new() -> Self {
            let limits = Limits {
                message_bytes: 1 << 20,
                utf8: Utf8::Every,
            };
            Self(Decoder::new(Role::Server, limits))
        }

        /// Takes at most `room` bytes.
        fn read(&mut self, output: &mut Output, room: usize) -> Vec<String> {
            let bytes = output.unwritten().unwrap();
            let mut bytes = bytes[..bytes.len().min(room)].to_vec();
            output.wrote(bytes.len());
            let mut rest = &mut bytes[..];
            let mut seen = Vec::new();
            while !rest.is_empty() {
                match self.0.decode(&mut rest).unwrap() {
                    None => {}
                    Some(Event::Message { payload, .. }) => {
                        seen.push(String::from_utf8(payload.into_vec()).unwrap());
                    }
                    Some(Event::Ping(payload)) => seen.push(format!("ping {payload:?}")),
                    Some(Event::Pong(payload)) => seen.push(format!("pong {payload:?}")),
                    Some(Event::Close(frame)) => {
                        seen.push(format!("close {:?}", frame.map(|frame| frame.code)));
                    }
                }
            }
            seen
        }
    }

    #[test]
    fn messages_leave_in_order_and_the_answer_to_a_close_behind_them() {
        let (mut output, mut peer) = (Output::default(), Peer::new());
        output.text(b"1").unwrap();
        output.ping(b"").unwrap();
        output.text(b"2").unwrap();
        output.answer_close(4000);
        let seen = peer.read(&mut output, usize::MAX);
        assert_eq!(seen, ["1", "ping \"\"", "2", "close Some(4000)"]);
        output.text(b"3").unwrap();
        output.close(1000, "").unwrap();
        output.answer_ping(b"late");
        assert!(output.unwritten().unwrap().is_empty());
    }

    #[test]
    fn a_ping_is_a_legal_frame_or_none() {
        let (mut output, mut peer) = (Output::default(), Peer::new());
        let refused = output.ping(&[b'x'; MAX_CONTROL_BYTES + 1]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(output.len(), 0);
        output.ping(&[b'x'; MAX_CONTROL_BYTES]).unwrap();
        assert_eq!(peer.read(&mut output, usize::MAX).len(), 1);
    }

    #[test]
    fn a_sender_who_never_stops_does_not_hold_up_a_pong_and_costs_no_memory() {
        const BOUND: usize = 10_000;
        let (mut output, mut peer) = (Output::default(), Peer::new());
        let message = "x".repeat(1_000);
        let (mut messages, mut pongs) = (0, 0);
        let fill = |output: &mut Output| {
            while output.len() < BOUND {
                output.text(message.as_bytes()).unwrap();
            }
        };
        for round in 0_u16..1_000 {
            // Before and after what leaves: there is always something that waits.
            fill(&mut output);
            output.answer_ping(&round.to_be_bytes());
            for seen in peer.read(&mut output, 700) {
                match seen.as_str() {
                    text if text == message => messages += 1,
                    text => pongs += i32::from(text.starts_with("pong ")),
                }
            }
            fill(&mut output);
        }
        // A pong for each time that what is being written has left.
        assert!(pongs >= 50, "{pongs} pongs, {messages} messages");
        assert!(messages >= 650, "{messages} messages");
        let capacity = output.current.capacity() + output.next.capacity();
        assert!(capacity < 6 * BOUND, "{capacity} bytes are kept");
    }
}
