//! Open files that are kept to be given up: where others have used up all that the process may have open, each lets one
//! connection in for one request, and the last of them for one that asks after the server's health. Without them no
//! connection could be accepted, and whoever watches the server would take it for dead.

use std::fs::File;

/// How many connections can be let in at the same time.
const SPARES: usize = 4;

pub(super) struct Spares {
    files: Vec<File>,
    /// Whether any was needed since all were there.
    is_told: bool,
}

impl Spares {
    pub(super) fn new() -> Self {
        let mut spares = Self { files: Vec::with_capacity(SPARES), is_told: false };
        spares.fill();
        spares
    }

    /// Opens again what was given up: whether all are there.
    pub(super) fn fill(&mut self) -> bool {
        while self.files.len() < SPARES
            && let Ok(file) = File::open("/dev/null")
        {
            self.files.push(file);
        }
        let is_full = self.files.len() == SPARES;
        self.is_told &= !is_full;
        is_full
    }

    /// `true` for the first of several times in a row that no file is left.
    pub(super) const fn is_news(&mut self) -> bool {
        !std::mem::replace(&mut self.is_told, true)
    }

    pub(super) const fn left(&self) -> usize {
        self.files.len()
    }

    /// Makes room for one more open file; `false` where there was nothing to be given up.
    pub(super) fn give_up_one(&mut self) -> bool {
        self.files.pop().is_some()
    }
}
