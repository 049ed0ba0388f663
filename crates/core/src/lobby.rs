//! Interim.
#![allow(missing_docs)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(u64);
pub enum Entry {
    Refused,
    Entered {
        ticket: Ticket,
        evicted: Option<Ticket>,
    },
}
pub struct Lobby<K>(u64, std::marker::PhantomData<K>);
impl<K: Ord + Clone> Lobby<K> {
    pub fn new(_c: usize, _m: u32) -> Self {
        Self(0, std::marker::PhantomData)
    }
    pub fn enter(&mut self, _k: Option<K>) -> Entry {
        self.0 += 1;
        Entry::Entered {
            ticket: Ticket(self.0),
            evicted: None,
        }
    }
    pub fn identify(&mut self, _t: Ticket, _k: K) -> bool {
        true
    }
    pub fn leave(&mut self, _t: Ticket) {}
}
