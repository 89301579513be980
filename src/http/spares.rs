//! Spare open files. When other uses exhaust the process's file limit, each spare is given up to let one connection
//! in for one request, and the last one for a health request. Without them no connection could be accepted, and
//! monitoring would consider the server dead.

use std::fs::File;

/// How many connections can be let in at the same time.
const SPARES: usize = 4;

pub(super) struct Spares {
    files: Vec<File>,
    /// Whether the shortage was logged since all spares were last available.
    is_told: bool,
}

impl Spares {
    pub(super) fn new() -> Self {
        let mut spares = Self { files: Vec::with_capacity(SPARES), is_told: false };
        spares.fill();
        spares
    }

    /// Reopens the spares that were given up. Returns whether all are open.
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

    /// Returns `true` for the first of several consecutive times that no file is left.
    pub(super) const fn is_news(&mut self) -> bool {
        !std::mem::replace(&mut self.is_told, true)
    }

    pub(super) const fn left(&self) -> usize {
        self.files.len()
    }

    /// Frees one open file; `false` if no spare is left.
    pub(super) fn give_up_one(&mut self) -> bool {
        self.files.pop().is_some()
    }
}
