//! A supervisor's error output: its folder keeps stderr for the server.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes to stderr, where the server reads it. Unlike `eprintln!`, it does not panic if the disk is full.
pub(super) fn complain(what: impl Display) {
    let _ = writeln!(io::stderr(), "{what}");
}
