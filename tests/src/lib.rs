//! The black-box tests' harness.
