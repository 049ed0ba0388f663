//! The program. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    pyrycode_relay::program::run(std::env::args_os())
}
