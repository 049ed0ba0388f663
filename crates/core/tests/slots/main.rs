//! The slots' behaviour, seen through a hub: each row of the table as a sentence, and random histories.

// A lookup of the model that finds nothing is a failed test.
#![allow(clippy::unwrap_used)]

mod histories;
mod parking;
mod redial;
mod resume;
mod scene;
mod shell;
mod table;
