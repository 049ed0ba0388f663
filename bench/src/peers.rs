//! Peers that come back: they dial, upgrade, are answered, lose their connection, and dial again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

use relay_client::Ladder;

use crate::dial::{Dialler, Leg, PATIENCE, turned_away};
use crate::far::Far;
use crate::fleet::envelope_frame;
use crate::link::{Keys, Link};
use crate::poll::{Poll, now};
use crate::wire::{self, Scanner};

/// Dials that are begun in a row. Each of many clients goes on with its own at once.
const AT_ONCE: usize = 32;

/// Dials under way at the same time while a crowd connects at leisure.
const AT_LEISURE: usize = 64;

/// A phone's frame, and what a binary answers.
const WORD: &[u8] = br#"{"v":2,"type":"noise_init","data":"AAAA"}"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not connected; a dial may be due later.
    Away,
    /// Dialled: the request goes out, the response is awaited.
    Dialling,
    /// Upgraded.
    Up,
    /// A phone that was answered since it is up.
    Answered,
}

#[derive(Debug)]
struct Peer {
    leg: Leg,
    request: Vec<u8>,
    phase: Phase,
    link: Option<Link>,
    /// To be written, and how much of it is.
    out: Vec<u8>,
    written: usize,
    /// The response so far.
    head: Vec<u8>,
    scanner: Scanner,
    failures: u32,
    /// Tells a timer of an earlier dial from one of this.
    dials: u32,
    /// Its next dial is its first one since [`Peers::mark`].
    marked: bool,
}

/// When the peers dial again.
#[derive(Clone, Debug)]
pub(crate) struct Habit {
    /// The waits after a dial that failed.
    pub(crate) ladder: Ladder,
    /// Whether a phone whose connection ended waits, too. A daemon does not.
    pub(crate) phones_wait: bool,
}

/// All of them, in one thread.
pub(crate) struct Peers<'a> {
    poll: Poll,
    dialler: Dialler,
    keys: Option<&'a Keys>,
    habit: Habit,
    peers: Vec<Peer>,
    /// Dials that are due, or that have taken too long.
    timers: BinaryHeap<Reverse<(Instant, usize, u32)>>,
    word: Box<[u8]>,
    random: u32,
    far: Option<Far>,
    /// Why a connection or a dial ended last.
    trouble: Option<io::Error>,
    /// Peers that are connected, and phones among them that were answered.
    up: usize,
    answered: usize,
    /// When each answer came.
    pub(crate) answers: Vec<Instant>,
    /// When the first dial since [`Self::mark`] of the last peer was due. That this program comes to it late is no merit of the
    /// relay.
    pub(crate) last_dial: Instant,
    /// Dials altogether.
    pub(crate) dials: u64,
}

impl<'a> Peers<'a> {
    /// Nobody is connected yet. Each has its leg and its request.
    pub(crate) fn new(
        dialler: Dialler,
        keys: Option<&'a Keys>,
        habit: Habit,
        all: impl IntoIterator<Item = (Leg, Vec<u8>)>,
    ) -> io::Result<Self> {
        let peer = |(leg, request)| Peer {
            leg,
            request,
            phase: Phase::Away,
            link: None,
            out: Vec::new(),
            written: 0,
            head: Vec::new(),
            scanner: Scanner::new(),
            failures: 0,
            dials: 0,
            marked: false,
        };
        Ok(Self {
            poll: Poll::new()?,
            dialler,
            keys,
            habit,
            peers: all.into_iter().map(peer).collect(),
            timers: BinaryHeap::new(),
            word: wire::message(WORD),
            random: 0x9e37_79b9,
            far: None,
            trouble: None,
            up: 0,
            answered: 0,
            answers: Vec::new(),
            last_dial: Instant::now(),
            dials: 0,
        })
    }

    /// They reach this process, through the floor.
    pub(crate) fn far(&mut self, listener: std::net::TcpListener) -> io::Result<()> {
        self.far = Some(Far::new(listener, &self.poll, self.peers.len())?);
        Ok(())
    }

    pub(crate) fn phones(&self) -> usize {
        self.of(Leg::Phone).count()
    }

    fn of(&self, leg: Leg) -> impl Iterator<Item = usize> {
        let peers = self.peers.iter().enumerate();
        peers
            .filter(move |(_, peer)| peer.leg == leg)
            .map(|(index, _)| index)
    }

    /// Connects everybody without haste: binaries first, then phones, until each of these is answered.
    pub(crate) fn connect(&mut self, bound: Duration) -> io::Result<()> {
        let until = Instant::now() + bound;
        for leg in [Leg::Binary, Leg::Phone] {
            let all: Vec<usize> = self.of(leg).collect();
            for some in all.chunks(AT_LEISURE) {
                some.iter().try_for_each(|index| self.dial(*index))?;
                let ready = |peer: &Peer| match leg {
                    Leg::Binary => peer.phase == Phase::Up,
                    Leg::Phone => peer.phase == Phase::Answered,
                };
                let done = |peers: &Self| some.iter().all(|index| ready(&peers.peers[*index]));
                if !self.go_on(until, done)? {
                    return Err(self.late("being connected", bound));
                }
            }
        }
        self.answers.clear();
        for peer in &mut self.peers {
            peer.failures = 0;
        }
        Ok(())
    }

    /// Everybody dials now.
    pub(crate) fn dial_all(&mut self) -> io::Result<()> {
        (0..self.peers.len()).try_for_each(|index| self.dial(index))
    }

    /// All binaries lose their connections, without a word, and come back by their habit.
    pub(crate) fn crash_binaries(&mut self) -> io::Result<()> {
        let binaries: Vec<usize> = self.of(Leg::Binary).collect();
        for index in &binaries {
            self.peers[*index].link = None;
        }
        binaries.into_iter().try_for_each(|index| self.lost(index))
    }

    /// Every phone that was answered says something more, and waits for the answer to that.
    pub(crate) fn speak(&mut self) -> io::Result<()> {
        for index in self.of(Leg::Phone).collect::<Vec<_>>() {
            let peer = &mut self.peers[index];
            if peer.phase == Phase::Answered {
                peer.phase = Phase::Up;
                self.answered -= 1;
                peer.out.extend_from_slice(&self.word);
                peer.flush()?;
            }
        }
        Ok(())
    }

    /// From now on first dials count: those that come to nothing are not to look as if the peers had dialled later.
    pub(crate) fn mark(&mut self) {
        self.last_dial = Instant::now();
        for peer in &mut self.peers {
            peer.marked = true;
        }
    }

    /// Goes on for this time.
    pub(crate) fn run(&mut self, time: Duration) -> io::Result<()> {
        self.go_on(Instant::now() + time, |_| false).map(drop)
    }

    /// Goes on until everybody is connected, and every phone has been answered since it is; that is at least so
    /// many answers since the last call.
    pub(crate) fn until_answered(&mut self, answers: usize, bound: Duration) -> io::Result<()> {
        let (phones, all) = (self.phones(), self.peers.len());
        let done = |peers: &Self| {
            peers.answered == phones && peers.up == all && peers.answers.len() >= answers
        };
        match self.go_on(Instant::now() + bound, done)? {
            true => Ok(()),
            false => Err(self.late("being answered", bound)),
        }
    }

    fn late(&self, what: &str, bound: Duration) -> io::Error {
        let (answered, all) = (self.answered, self.phones());
        let seconds = bound.as_secs();
        let trouble = self
            .trouble
            .as_ref()
            .map_or(String::new(), |error| format!(" (of late: {error})"));
        let by = |wanted| {
            self.peers
                .iter()
                .filter(|peer| peer.phase == wanted)
                .count()
        };
        let (away, dialling) = (by(Phase::Away), by(Phase::Dialling));
        io::Error::other(format!(
            "{what}: only {answered} of {all} phones within {seconds} s, \
             {away} peers away, {dialling} dialling{trouble}"
        ))
    }

    /// Whether it is done, rather than out of time.
    fn go_on(&mut self, until: Instant, done: impl Fn(&Self) -> bool) -> io::Result<bool> {
        let mut ready = Vec::new();
        loop {
            if done(self) {
                return Ok(true);
            }
            let now = Instant::now();
            if now >= until {
                return Ok(false);
            }
            self.expire(now)?;
            let next = self.timers.peek().map_or(until, |Reverse((at, ..))| *at);
            let wait = next.min(until).saturating_duration_since(Instant::now());
            self.poll.wait(&mut ready, wait)?;
            for number in ready.iter().map(|event| event.number) {
                match self.far.as_mut().filter(|far| far.has(number)) {
                    Some(far) => far.go_on(&self.poll, number)?,
                    None => self.advance(number)?,
                }
            }
        }
    }

    /// Dials what is due, and gives up dials that took too long.
    fn expire(&mut self, now: Instant) -> io::Result<()> {
        for _ in 0..AT_ONCE {
            let next = self.timers.peek().copied();
            let Some(Reverse((due, index, dials))) = next.filter(|Reverse((at, ..))| *at <= now)
            else {
                break;
            };
            self.timers.pop();
            let peer = &self.peers[index];
            match peer.phase {
                _ if peer.dials != dials => {}
                Phase::Away => self.dial_due(index, due)?,
                Phase::Dialling => {
                    self.trouble = Some(io::Error::other("no answer to a dial"));
                    self.lost(index)?;
                }
                Phase::Up | Phase::Answered => {}
            }
        }
        Ok(())
    }

    fn dial(&mut self, index: usize) -> io::Result<()> {
        self.dial_due(index, Instant::now())
    }

    fn dial_due(&mut self, index: usize, due: Instant) -> io::Result<()> {
        let begun = self.dialler.begin();
        let now = Instant::now();
        self.dials += 1;
        let peer = &mut self.peers[index];
        if std::mem::take(&mut peer.marked) {
            self.last_dial = due.max(self.last_dial);
        }
        peer.dials += 1;
        peer.phase = Phase::Dialling;
        let tcp = match begun {
            Ok(tcp) => tcp,
            Err(error) => {
                self.trouble = Some(error);
                return self.lost(index);
            }
        };
        self.poll.add(&tcp, index)?;
        peer.link = Some(Link::over(tcp, self.keys)?);
        peer.out.clone_from(&peer.request);
        peer.written = 0;
        peer.head.clear();
        peer.scanner = Scanner::new();
        let late = Reverse((now + PATIENCE, index, peer.dials));
        self.timers.push(late);
        Ok(())
    }

    /// The connection, or the dial, has ended. When to dial again is what the real apps do.
    fn lost(&mut self, index: usize) -> io::Result<()> {
        let peer = &mut self.peers[index];
        peer.link = None;
        let dialled = peer.phase == Phase::Dialling;
        self.answered -= usize::from(peer.phase == Phase::Answered);
        self.up -= usize::from(matches!(peer.phase, Phase::Up | Phase::Answered));
        peer.phase = Phase::Away;
        let waits = peer.leg == Leg::Phone && self.habit.phones_wait;
        if !dialled && !waits {
            return self.dial(index);
        }
        peer.failures += 1;
        // Xorshift: spreads the waits, the same in every run.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        let wait = self.habit.ladder.wait(peer.failures, self.random);
        let due = Reverse((Instant::now() + wait, index, peer.dials));
        self.timers.push(due);
        Ok(())
    }

    /// Writes and reads what can be.
    fn advance(&mut self, index: usize) -> io::Result<()> {
        let peer = &mut self.peers[index];
        if peer.link.is_none() {
            return Ok(());
        }
        let before = peer.phase;
        let exchanged = peer.exchange(&self.word);
        self.up += usize::from(before == Phase::Dialling && peer.phase == Phase::Up);
        match exchanged {
            Ok(answered) => {
                if answered && peer.phase == Phase::Up {
                    peer.phase = Phase::Answered;
                    self.answered += 1;
                    self.answers.push(Instant::now());
                }
                Ok(())
            }
            Err(error) => {
                self.trouble = Some(error);
                self.lost(index)
            }
        }
    }
}

impl Peer {
    /// Whether a frame came for a phone. An error means that the connection is over.
    fn exchange(&mut self, word: &[u8]) -> io::Result<bool> {
        let mut answered = false;
        let mut buffer = [0; 4096];
        loop {
            self.flush()?;
            let Some(link) = &mut self.link else {
                return Ok(answered);
            };
            let Some(count) = now(link.read(&mut buffer))? else {
                self.flush()?;
                return Ok(answered);
            };
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            answered |= self.take(&buffer[..count], word)?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while let Some(link) = &mut self.link
            && self.written < self.out.len()
        {
            let Some(count) = now(link.write(&self.out[self.written..]))? else {
                return Ok(());
            };
            self.written += count;
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], word: &[u8]) -> io::Result<bool> {
        if self.phase != Phase::Dialling {
            return self.frames(bytes);
        }
        self.head.extend_from_slice(bytes);
        let end = self
            .head
            .windows(4)
            .position(|window| window == b"\r\n\r\n");
        let Some(end) = end else {
            return Ok(false);
        };
        if !self.head.starts_with(b"HTTP/1.1 101") {
            return Err(turned_away(&self.head));
        }
        self.phase = Phase::Up;
        if self.leg == Leg::Phone {
            self.out.extend_from_slice(word);
        }
        let rest = std::mem::take(&mut self.head).split_off(end + 4);
        self.frames(&rest)
    }

    fn frames(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let (mut answered, mut closed) = (false, false);
        let (out, leg) = (&mut self.out, self.leg);
        self.scanner.feed(bytes, |frame| match (frame.opcode, leg) {
            (1 | 2, Leg::Phone) => answered = true,
            (1 | 2, Leg::Binary) => {
                // What is no envelope of a frame is news of a phone that left.
                let conn_id = wire::conn_id(frame.start);
                let answer = conn_id.and_then(|conn_id| envelope_frame(conn_id, WORD));
                let is_frame = frame.start.windows(8).any(|window| window == b"\"frame\":");
                if let (Some(answer), true) = (answer, is_frame) {
                    out.extend_from_slice(&answer);
                }
            }
            (8, _) => closed = true,
            (9, _) => out.extend_from_slice(&wire::pong(frame.start)),
            _ => {}
        });
        match closed {
            true => Err(io::Error::other("closed by the relay")),
            false => Ok(answered),
        }
    }
}
