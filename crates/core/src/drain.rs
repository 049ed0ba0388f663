//! Interim.
#![allow(missing_docs)]
use crate::Millis;
pub struct Drain<T>(Vec<T>, Millis);
impl<T> Drain<T> {
    pub fn new(n: Millis, w: u64, g: Vec<Vec<T>>, _s: u64) -> Self {
        Self(g.into_iter().flatten().collect(), n.plus(w))
    }
    pub fn deadline(&self) -> Option<Millis> {
        (!self.0.is_empty()).then_some(self.1)
    }
    pub fn due(&mut self, _n: Millis) -> Option<T> {
        self.0.pop()
    }
}
