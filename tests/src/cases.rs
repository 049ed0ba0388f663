//! The numbered conformance cases, 1 to 80: which are tested here, and which belong to later work.
//!
//! "The reference" in the tests' comments is the Go relay whose place this one takes; where ours differs
//! on purpose, the test asserts ours and says so.
//!
//! A test of case *n* has a name that starts with `c<n>_`. Tests without a number cover what this
//! relay does beyond the list.

/// How many cases there are.
pub const COUNT: u32 = 80;

/// Cases whose subject isn't built yet, and what they are about.
pub const LATER: &[(u32, &str)] = &[];
