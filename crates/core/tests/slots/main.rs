//! The slots' behaviour, seen through a hub: each row of the table as a sentence, and random histories.

mod histories;
mod parking;
mod redial;
mod scene;
mod shell;
mod table;
