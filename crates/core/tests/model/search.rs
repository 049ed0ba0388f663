//! Breadth-first search over every history of a model: each state once, its shortest history first.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::time::{Duration, Instant};

/// A rule that does not hold.
pub(crate) type Rule = &'static str;

/// `Ok` if it holds.
pub(crate) const fn rule(holds: bool, rule: Rule) -> Result<(), Rule> {
    if holds { Ok(()) } else { Err(rule) }
}

/// A machine with its surroundings, in one state.
pub(crate) trait Model: Clone {
    /// What can happen to it.
    type Event: Copy + PartialEq;
    /// What it says to that.
    type Effect: Debug;

    /// Everything that can happen now.
    fn events(&self, out: &mut Vec<Self::Event>);

    /// Lets it happen, and checks every rule on the way and afterwards.
    fn take(&mut self, event: Self::Event, said: &mut Vec<Self::Effect>) -> Result<(), Rule>;

    /// The same number for states that no future tells apart, and for no others. Looks into the machine, so rules
    /// about what it remembers are checked here.
    fn key(&self) -> Result<u128, Rule>;

    /// What happens if nobody does anything: the next moment, or the next timer. `None`: nothing ever will.
    fn quiet(&self) -> Option<Self::Event>;

    /// Checks a state that was not met before.
    fn check(&self) -> Result<(), Rule>;

    /// Checks that a state in which nothing will happen by itself owes nobody anything.
    fn at_rest(&self) -> Result<(), Rule>;

    /// The event in words.
    fn describe(&self, event: Self::Event) -> String;

    /// What was said, in words.
    fn describe_effect(&self, effect: &Self::Effect) -> String {
        format!("{effect:?}")
    }
}

/// What a search found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    pub(crate) transitions: u64,
    /// Events of the longest shortest history.
    pub(crate) depth: u32,
    /// Quiet events until the last state is at rest.
    pub(crate) longest_wait: u32,
    pub(crate) took: Duration,
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            states,
            transitions,
            depth,
            longest_wait,
            took,
        } = self;
        write!(
            f,
            "{states} states, {transitions} transitions, depth {depth}, at rest after {longest_wait} quiet events, \
             {:.1} s",
            took.as_secs_f64()
        )
    }
}

/// A rule that is broken, and the shortest history that breaks it.
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) history: String,
}

impl Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken: {}\n{}", self.rule, self.history)
    }
}

/// Where a state was found first.
struct Found<E> {
    from: u32,
    by: Option<E>,
}

const NOWHERE: u32 = u32::MAX;

struct Search<M: Model> {
    root: M,
    ids: HashMap<u128, u32>,
    found: Vec<Found<M::Event>>,
    /// The state after the quiet event of each state.
    quiet: Vec<u32>,
    transitions: u64,
}

/// Explores every state that can be reached from `root`. Every state is checked, every transition is taken.
///
/// # Errors
/// The first violation, in the order of the length of the history.
pub(crate) fn explore<M: Model>(root: M) -> Result<Explored, Violation> {
    let start = Instant::now();
    let mut search = Search {
        root: root.clone(),
        ids: HashMap::new(),
        found: Vec::new(),
        quiet: Vec::new(),
        transitions: 0,
    };
    let key = root.key().map_err(|rule| search.violation(rule, None))?;
    search.insert(key, NOWHERE, None);
    let mut layer = vec![root];
    let (mut first, mut depth) = (0, 0);
    loop {
        let next = search.expand(&layer, first)?;
        if next.is_empty() {
            break;
        }
        first += layer.len() as u32;
        layer = next;
        depth += 1;
    }
    Ok(Explored {
        states: search.found.len(),
        transitions: search.transitions,
        depth,
        longest_wait: search.longest_wait()?,
        took: start.elapsed(),
    })
}

impl<M: Model> Search<M> {
    /// The state's number, and whether it is new.
    fn insert(&mut self, key: u128, from: u32, by: Option<M::Event>) -> (u32, bool) {
        let new = self.found.len() as u32;
        let id = *self.ids.entry(key).or_insert(new);
        if id == new {
            self.found.push(Found { from, by });
            self.quiet.push(NOWHERE);
        }
        (id, id == new)
    }

    /// Takes every transition of the states of one layer, whose numbers begin with `first`. Returns the new states.
    fn expand(&mut self, layer: &[M], first: u32) -> Result<Vec<M>, Violation> {
        let mut next = Vec::new();
        let (mut events, mut said) = (Vec::new(), Vec::new());
        for (from, state) in (first..).zip(layer) {
            let quiet = state.quiet();
            if quiet.is_none() {
                let at_rest = state.at_rest();
                at_rest.map_err(|rule| self.violation(rule, Some((from, None))))?;
            }
            state.events(&mut events);
            for event in events.drain(..) {
                let mut after = state.clone();
                said.clear();
                let taken = after.take(event, &mut said);
                let key = taken.and_then(|()| after.key());
                let key = key.map_err(|rule| self.violation(rule, Some((from, Some(event)))))?;
                self.transitions += 1;
                let (id, is_new) = self.insert(key, from, Some(event));
                if quiet == Some(event) {
                    self.quiet[from as usize] = id;
                }
                if is_new {
                    let checked = after.check();
                    checked.map_err(|rule| self.violation(rule, Some((from, Some(event)))))?;
                    next.push(after);
                }
            }
        }
        Ok(next)
    }

    /// How many quiet events bring every state to rest.
    fn longest_wait(&self) -> Result<u32, Violation> {
        let mut waits: Vec<Option<u32>> = vec![None; self.quiet.len()];
        let mut path = Vec::new();
        for start in 0..self.quiet.len() as u32 {
            let mut at = start;
            while at != NOWHERE && waits[at as usize].is_none() {
                if path.len() > self.quiet.len() {
                    return Err(
                        self.violation("left alone, everything comes to rest", Some((start, None)))
                    );
                }
                path.push(at);
                at = self.quiet[at as usize];
            }
            let mut wait = waits.get(at as usize).copied().flatten();
            for state in path.drain(..).rev() {
                wait = Some(wait.map_or(0, |wait| wait + 1));
                waits[state as usize] = wait;
            }
        }
        Ok(waits.into_iter().flatten().max().unwrap_or(0))
    }

    /// Plays the history of a state, and one more event, from the beginning.
    fn violation(&self, rule: Rule, at: Option<(u32, Option<M::Event>)>) -> Violation {
        let mut events = Vec::new();
        if let Some((mut id, last)) = at {
            events.extend(last);
            while let Some(Found { from, by: Some(by) }) = self.found.get(id as usize) {
                events.push(*by);
                id = *from;
            }
        }
        let mut history = String::new();
        let mut state = self.root.clone();
        for (n, event) in events.into_iter().rev().enumerate() {
            history += &format!("{:4}  {}\n", n + 1, state.describe(event));
            let mut said = Vec::new();
            // The last one breaks the rule; what it said so far is shown.
            let _ = state.take(event, &mut said);
            for effect in &said {
                history += &format!("        {}\n", state.describe_effect(effect));
            }
        }
        Violation { rule, history }
    }
}
