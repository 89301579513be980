//! What goes wrong in a supervisor, on its standard error: its folder keeps it for the server.

use std::fmt::Display;
use std::io::{self, Write};

/// Says it on stderr, where the server finds it. Unlike `eprintln!`, which panics where the disk is full.
pub(super) fn complain(what: impl Display) {
    let _ = writeln!(io::stderr(), "{what}");
}
