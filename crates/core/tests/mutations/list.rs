//! Mistakes somebody might make in the core one day, and the rule that each breaks.

/// One mistake: in `file`, `right` becomes `wrong`.
pub(crate) struct Mutation {
    pub(crate) what: &'static str,
    pub(crate) file: &'static str,
    /// Occurs once in the file.
    pub(crate) right: &'static str,
    pub(crate) wrong: &'static str,
    /// The rule of the model check that must be named.
    pub(crate) breaks: &'static str,
}

const HUB: &str = "src/hub.rs";
const SLOT: &str = "src/slot.rs";
const BINARY: &str = "src/slot/binary.rs";
const PHONE: &str = "src/slot/phone.rs";
const SESSION: &str = "src/session.rs";
const PROOF: &str = "src/proof.rs";

pub(crate) const MUTATIONS: &[Mutation] = &[
    Mutation {
        what: "a timer that fires for a parked phone ends grace",
        file: SLOT,
        right: "Tenure::Grace(grace) if grace.until <= cx.now => self.grace_expired(cx),",
        wrong: "Tenure::Grace(_) => self.grace_expired(cx),",
        breaks: "grace ends in its time",
    },
    Mutation {
        what: "the timer of a grace that a claim ended stays armed",
        file: HUB,
        right: "deadline.map(|at| self.timers.remove(&(at, server.clone())));",
        wrong: "",
        breaks: "there is a timer for what is owed next, and for nothing else",
    },
    Mutation {
        what: "a displaced holder's end releases its successor's slot",
        file: BINARY,
        right: "if live.holder != conn {\n            live.claimants",
        wrong: "if live.holder != conn && live.knows(conn) {\n            live.claimants",
        breaks: "what is stale, early, repeated or invented changes nothing",
    },
    Mutation {
        what: "an evicted phone's end is told a second time",
        file: PHONE,
        right: "return self.evicted_gone(conn, end, cx);",
        wrong: "if let Tenure::Live(live) = &self.tenure {
                cx.emit(Effect::Notice { binary: live.holder, phone: conn, code: end.code });
            }
            return self.evicted_gone(conn, end, cx);",
        breaks: "what is stale, early, repeated or invented changes nothing",
    },
    Mutation {
        what: "a departed phone's notice is sent twice",
        file: BINARY,
        right: "cx.emit(Effect::DeliverDeparted { phone, binary });",
        wrong: "cx.emit(Effect::DeliverDeparted { phone, binary });
                cx.emit(Effect::Notice { binary, phone, code });",
        breaks: "a notice is about an end nobody asked for",
    },
    Mutation {
        what: "a parked phone is forgotten",
        file: SLOT,
        right: "parked.chain(tenure).min()",
        wrong: "parked.filter(|_| false).chain(tenure).min()",
        breaks: "there is a timer for what is owed next, and for nothing else",
    },
    Mutation {
        what: "each frame lets a parked phone wait longer",
        file: PHONE,
        right: "self.parked.get_or_insert(Parked { until, frames }).frames |= frames;",
        wrong: "self.parked.insert(Parked { until, frames }).frames |= frames;",
        breaks: "there is a timer for what is owed next, and for nothing else",
    },
    Mutation {
        what: "a pong of anybody answers the holder's probe",
        file: BINARY,
        right: "if live.holder != conn || probe > self.last_probe {",
        wrong: "if probe > self.last_probe {",
        breaks: "what is stale, early, repeated or invented changes nothing",
    },
    Mutation {
        what: "a pong to a ping that was never sent proves life",
        file: BINARY,
        right: "if live.holder != conn || probe > self.last_probe {",
        wrong: "if live.holder != conn {",
        breaks: "what is stale, early, repeated or invented changes nothing",
    },
    Mutation {
        what: "a pong from before a claim refuses it",
        file: BINARY,
        right: "let answered = claimant.probe <= probe;",
        wrong: "let answered = claimant.probe <= probe + 1;",
        breaks: "what is stale, early, repeated or invented changes nothing",
    },
    Mutation {
        what: "a claimant behind the one that takes over never hears anything",
        file: BINARY,
        right: "self.probe(claimant.conn, claimant.instance, cx);",
        wrong: "drop(claimant);",
        breaks: "the holder is pinged for each claimant",
    },
    Mutation {
        what: "the last claimant is the first to be served",
        file: BINARY,
        right: "let Some(winner) = waiting.next() else { return };",
        wrong: "let Some(winner) = waiting.next_back() else { return };",
        breaks: "who waits longest is next",
    },
    Mutation {
        what: "a claimant that is gone still takes over",
        file: BINARY,
        right: "live.claimants.retain(|claimant| claimant.conn != conn);",
        wrong: "",
        breaks: "there is a timer for what is owed next, and for nothing else",
    },
    Mutation {
        what: "a holder that ends is waited for although somebody else waits for its slot",
        file: BINARY,
        right: "if !live.claimants.is_empty() {\n            return self.succeed(cx);\n        }",
        wrong: "",
        breaks: "a claim waits only for a holder",
    },
    Mutation {
        what: "a moment's silence on the path is taken for death",
        file: BINARY,
        right: "None | Some(0) => self.takeover(cx),",
        wrong: "None | Some(0 | 1) => self.takeover(cx),",
        breaks: "a holder is displaced only if it seems dead",
    },
    Mutation {
        what: "the kernel is asked again and again",
        file: BINARY,
        right: "claimant.check_at = None;",
        wrong: "",
        breaks: "there is a timer for what is owed next, and for nothing else",
    },
    Mutation {
        what: "another process resumes a tenure",
        file: BINARY,
        right: "matches!((a, b), (Some(a), Some(b)) if a == b)",
        wrong: "matches!((a, b), (Some(_), Some(_)))",
        breaks: "a claim is what it is called",
    },
    Mutation {
        what: "who does not say its name resumes a tenure",
        file: BINARY,
        right: "matches!((a, b), (Some(a), Some(b)) if a == b)",
        wrong: "a == b",
        breaks: "a claim is what it is called",
    },
    Mutation {
        what: "a new process gets the sessions of the one before it",
        file: PHONE,
        right: "let stays = !phone.heard && cx.policy.parks();",
        wrong: "let stays = cx.policy.parks();",
        breaks: "a phone's frames reach one tenure",
    },
    Mutation {
        what: "a phone that waits for the next binary is evicted by it",
        file: PHONE,
        right: "let stays = !phone.heard && cx.policy.parks();",
        wrong: "let stays = false;",
        breaks: "a phone is evicted only for what is true",
    },
    Mutation {
        what: "a takeover leaves the old tenure's phones where they are",
        file: BINARY,
        right: "self.evict_all(Cause::BinaryReclaimed, cx);",
        wrong: "",
        breaks: "no phone outlives the tenure that knows it",
    },
    Mutation {
        what: "frames of a parked phone are left behind",
        file: PHONE,
        right: "self.heard |= parked.as_ref().is_some_and(|p| p.frames);",
        wrong: "",
        breaks: "no frame that waits is forgotten",
    },
    Mutation {
        what: "the end of grace leaves its phones in the empty slot",
        file: BINARY,
        right: "self.evict_all(Cause::BinaryDidNotReturn, cx);",
        wrong: "",
        breaks: "whoever looks at the slot sees what it is",
    },
    Mutation {
        what: "what was kept of a departed phone is never dropped",
        file: BINARY,
        right: "None => cx.emit(Effect::ForgetDeparted { phone }),",
        wrong: "None => {}",
        breaks: "a phone is kept only while the tenure may be resumed",
    },
    Mutation {
        what: "a binary is told of an end that it asked for",
        file: PHONE,
        right: "if end.silent {\n            return;\n        }",
        wrong: "",
        breaks: "a notice is about an end nobody asked for",
    },
    Mutation {
        what: "a phone that waits for the next binary is mentioned when it leaves",
        file: PHONE,
        right: "Tenure::Grace(_) if phone.parked.is_none() => {",
        wrong: "Tenure::Grace(_) => {",
        breaks: "who waits for a binary is not mentioned, and everybody else is",
    },
    Mutation {
        what: "a binary that resumes does not hear of a phone that waited in vain",
        file: PHONE,
        right: "if let Some(close) = cause.close() {",
        wrong: "if let Some(close) = cause.close().filter(|_| cause != Cause::NoServer) {",
        breaks: "a binary that may come back hears whom it lost",
    },
    Mutation {
        what: "one phone more than allowed",
        file: PHONE,
        right: "if self.phones.len() >= cx.policy.phones_per_server {",
        wrong: "if self.phones.len() > cx.policy.phones_per_server {",
        breaks: "no more phones than allowed",
    },
    Mutation {
        what: "the start of the relay never ends",
        file: PHONE,
        right: "if !cx.policy.parks() || cx.now >= cx.boot_park_until {",
        wrong: "if !cx.policy.parks() {",
        breaks: "an empty slot has no phones",
    },
    Mutation {
        what: "the answer to an older ping is taken for one to the ping that is awaited",
        file: SESSION,
        right: "(self.awaited_ping..=self.last_ping).contains(&number)",
        wrong: "number <= self.last_ping",
        breaks: "what is stale, early, repeated or invented changes nothing",
    },
    Mutation {
        what: "any answer to a probe is taken for a sign of life",
        file: SESSION,
        right: "            && newer < *unanswered_probes\n",
        wrong: "",
        breaks: "what is stale, early, repeated or invented changes nothing",
    },
    Mutation {
        what: "a probe is answered again and again",
        file: SESSION,
        right: "            *unanswered_probes = newer;\n",
        wrong: "",
        breaks: "a probe is asked for until it is answered",
    },
    Mutation {
        what: "only the answer to the newest probe is a sign of life",
        file: SESSION,
        right: "            && newer < *unanswered_probes\n",
        wrong: "            && newer < 1.min(*unanswered_probes)\n",
        breaks: "an answer that was asked for is taken",
    },
    Mutation {
        what: "the heartbeat's ping is the last, though a probe is unanswered",
        file: SESSION,
        right: "            probe,\n        })",
        wrong: "            probe: None,\n        })",
        breaks: "the last ping is the probe's until it is answered",
    },
    Mutation {
        what: "a peer that is not read is late all the same",
        file: SESSION,
        right: "if *pong_due <= now && !*held_back {",
        wrong: "if *pong_due <= now {",
        breaks: "a connection is closed for what is late, when it is",
    },
    Mutation {
        what: "a second cause sends a second Close",
        file: SESSION,
        right: "if !self.is_open() {\n            return None;\n        }\n        self.cause",
        wrong: "self.cause",
        breaks: "one Close is sent, for the first cause",
    },
    Mutation {
        what: "the answer to our Close is answered",
        file: SESSION,
        right: "Phase::Closing { peer_closed, .. } => *peer_closed = true,",
        wrong: "Phase::Closing { peer_closed, .. } => {
                *peer_closed = true;
                return true;
            }",
        breaks: "a Close is answered, and no answer is",
    },
    Mutation {
        what: "a peer that never answers our Close is waited for without end",
        file: SESSION,
        right: "now.plus(self.times.close_wait.into())",
        wrong: "Millis::NEVER",
        breaks: "there is a timer for what is owed next, and for nothing else",
    },
    Mutation {
        what: "a claimant that gives up counts as a short tenure",
        file: BINARY,
        right: "matches!(&self.tenure, Tenure::Live(live) if live.holder == conn && now.since(self.since) < ms)",
        wrong: "matches!(&self.tenure, Tenure::Live(live) if live.knows(conn) && now.since(self.since) < ms)",
        breaks: "only who redials at once is refused",
    },
    Mutation {
        what: "a proof that the peer passed over is waited for without end",
        file: PROOF,
        right: "self.asked > self.proven && !self.passed_over;",
        wrong: "self.asked > self.proven;",
        breaks: "all that a holder has read is proven in the end",
    },
    Mutation {
        what: "a proof that may have been passed over is asked for again without end",
        file: PROOF,
        right: "        self.passed_over = false;\n",
        wrong: "",
        breaks: "a proof that will be answered is waited for",
    },
    Mutation {
        what: "who has lost its slot is asked about its successor's frames",
        file: PROOF,
        right: " || !is_holder()",
        wrong: "",
        breaks: "only a holder is asked for proof",
    },
    Mutation {
        what: "only the answer to the last proof counts",
        file: PROOF,
        right: "number <= self.asked;",
        wrong: "number == self.asked;",
        breaks: "a proof counts once, however late",
    },
    Mutation {
        what: "a pong proves what was written, though no proof of it was asked for",
        file: PROOF,
        right: "number <= self.asked;",
        wrong: "number <= self.written;",
        breaks: "what is repeated or invented proves nothing",
    },
];
