//! The one interface between the commands' results and their display: for people, as JSON, or only what a script
//! needs.
//!
//! Results go to standard output, remarks about them to standard error. A failed write is an error of its own kind, so
//! that a reader who has seen enough (`… | head -1`) can be told from a server that has gone.

mod json;
mod quiet;
mod text;

use std::io::{self, BufWriter, IsTerminal, Write};

use jiff::Timestamp;

use crate::cli::terminal::{Filter, LogWriter};
use crate::wire::{
    Cluster, ClusterAdopted, ClusterDetailList, DefinitionList, LogChunk, Run, RunList, StoppedRun, TaskDefinition,
};

/// What `flotilla define` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defined {
    Created,
    Updated,
}

/// What a stop found.
#[derive(Debug, Clone)]
pub struct Stopped {
    pub answer: StoppedRun,
    /// It had ended before anyone asked.
    pub had_ended: bool,
}

/// Shows what a command has found out. A command calls one of the methods for documents once, or those for streams as
/// things come.
pub trait Output {
    fn defined(&mut self, definition: &TaskDefinition, what: Defined) -> io::Result<()>;
    fn definitions(&mut self, list: &DefinitionList, now: Timestamp) -> io::Result<()>;
    /// A definition, and its latest runs.
    fn definition(&mut self, definition: &TaskDefinition, runs: &RunList, now: Timestamp) -> io::Result<()>;
    fn launched(&mut self, run: &Run) -> io::Result<()>;
    fn runs(&mut self, list: &RunList, now: Timestamp) -> io::Result<()>;
    /// A run and its story.
    fn run(&mut self, run: &Run, now: Timestamp) -> io::Result<()>;
    fn stopped(&mut self, runs: &[Stopped]) -> io::Result<()>;
    fn clusters(&mut self, list: &ClusterDetailList, now: Timestamp) -> io::Result<()>;
    /// A cluster that was changed.
    fn cluster(&mut self, cluster: &Cluster) -> io::Result<()>;
    /// A cluster whose engine was given runs.
    fn adopted(&mut self, adopted: &ClusterAdopted) -> io::Result<()>;

    /// A run is followed from here on.
    fn following(&mut self, run: &Run) -> io::Result<()>;
    /// The status of the followed run is another one.
    fn status(&mut self, run: &Run) -> io::Result<()>;
    fn log(&mut self, chunk: &LogChunk) -> io::Result<()>;
    /// No more of the log comes.
    fn end_log(&mut self) -> io::Result<()>;
    /// Passes everything that is in a log on to a terminal, also what gives it commands.
    fn pass_commands(&mut self);
    /// The followed run has ended, and all of its log was shown.
    fn ended(&mut self, run: &Run) -> io::Result<()>;

    /// Where a log can be written as the bytes that it is; `None` where it is wanted through [`Output::log`].
    fn raw(&mut self) -> Option<&mut dyn Write>;

    /// A remark on what is going on, of no use to a program.
    fn note(&mut self, text: &str) -> io::Result<()>;
}

/// How results are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
    Quiet,
}

impl Format {
    pub fn open(self) -> Box<dyn Output> {
        let log = match io::stdout().is_terminal() {
            true => LogWriter::Safe(Filter::default()),
            false => LogWriter::AsItIs,
        };
        match self {
            Self::Text => Box::new(text::Text::new(BufWriter::new(io::stdout()), io::stderr(), log)),
            Self::Json => Box::new(json::Json::new(BufWriter::new(io::stdout()), io::stderr())),
            Self::Quiet => Box::new(quiet::Quiet::new(BufWriter::new(io::stdout()), log)),
        }
    }
}
