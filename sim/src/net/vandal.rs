//! Breaks what the network must not break, as a faulty relay would: to see that the checks notice.

use crate::rng::Rng;

/// What is broken, on the way from the relay to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vandalism {
    /// A message is lost.
    Lose,
    /// A message comes twice.
    Repeat,
    /// Two messages change places.
    Swap,
    /// A byte of a message is another one.
    Change,
    /// A Close has a code on which apps stop for good.
    Code,
    /// A reset comes instead of a Close.
    Unsaid,
    /// From some message on nothing comes any more.
    Mute,
    /// A phone is connected that nobody knows of: as if the relay had forgotten to let one go.
    Stowaway,
}

impl Vandalism {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Lose,
        Self::Repeat,
        Self::Swap,
        Self::Change,
        Self::Code,
        Self::Unsaid,
        Self::Mute,
        Self::Stowaway,
    ];
}

/// Messages of which one is hit.
const ONE_IN: u64 = 60;

/// Breaks the messages of one connection.
#[derive(Debug)]
pub(super) struct Vandal {
    how: Vandalism,
    rng: Rng,
    upgraded: bool,
    input: Vec<u8>,
    kept: Option<Vec<u8>>,
    muted: bool,
}

/// What goes on.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) bytes: Vec<u8>,
    pub(super) reset: bool,
}

impl Vandal {
    pub(super) fn new(how: Vandalism, rng: Rng) -> Self {
        Self {
            how,
            rng,
            upgraded: false,
            input: Vec::new(),
            kept: None,
            muted: false,
        }
    }

    /// Passes on what the relay wrote, frame by frame.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Done {
        self.input.extend_from_slice(bytes);
        let mut done = Done::default();
        if !self.upgraded {
            let Some(end) = self.input.windows(4).position(|w| w == b"\r\n\r\n") else {
                return done;
            };
            self.upgraded = true;
            done.bytes.extend(self.input.drain(..end + 4));
        }
        while let Some(length) = frame_length(&self.input) {
            let frame: Vec<u8> = self.input.drain(..length).collect();
            self.frame(frame, &mut done);
        }
        done
    }

    fn frame(&mut self, mut frame: Vec<u8>, done: &mut Done) {
        let is_text = frame[0] & 0x0f == 1;
        let is_close = frame[0] & 0x0f == 8;
        let hit = is_text && self.rng.within(0..ONE_IN) == 0;
        self.muted |= hit && self.how == Vandalism::Mute;
        if self.muted {
            return;
        }
        match self.how {
            Vandalism::Lose if hit => return,
            Vandalism::Repeat if hit => done.bytes.extend_from_slice(&frame),
            Vandalism::Swap if hit && self.kept.is_none() => {
                self.kept = Some(frame);
                return;
            }
            Vandalism::Change if hit => {
                let place = frame.len() - 4;
                frame[place] ^= 1;
            }
            Vandalism::Code if is_close && frame.len() >= 4 => {
                frame[2..4].copy_from_slice(&4421u16.to_be_bytes());
            }
            Vandalism::Unsaid if is_close => {
                done.reset = true;
                return;
            }
            _ => {}
        }
        done.bytes.extend_from_slice(&frame);
        if is_text && let Some(kept) = self.kept.take() {
            done.bytes.extend_from_slice(&kept);
        }
    }
}

/// Of the frame at the beginning, which a server sends without a mask.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    let (head, payload) = match *bytes.get(1)? & 0x7f {
        126 => (
            4,
            u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        ),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    let length = head + payload as usize;
    (bytes.len() >= length).then_some(length)
}
