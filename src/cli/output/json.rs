//! For programs: one JSON document a command, or one JSON object a line where things come one after another.
//!
//! A line has a `type`: `launched`, `status` and `ended` with the `run`, `log` with a piece of the log and its token.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::{Defined, Output, Stopped};
use crate::wire::{
    Cluster, ClusterAdopted, ClusterDetailList, DefinitionList, LogChunk, Run, RunList, StoppedRun, TaskDefinition,
};

pub struct Json<W, N> {
    out: W,
    notes: N,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Launched { run: &'a Run },
    Status { run: &'a Run },
    Log(&'a LogChunk),
    Ended { run: &'a Run },
}

impl<W: Write, N: Write> Json<W, N> {
    pub fn new(out: W, notes: N) -> Self {
        Self { out, notes }
    }

    fn document(&mut self, document: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.out, document)?;
        self.end_line()
    }

    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.end_line()
    }

    fn end_line(&mut self) -> io::Result<()> {
        writeln!(self.out)?;
        self.out.flush()
    }
}

impl<W: Write, N: Write> Output for Json<W, N> {
    fn defined(&mut self, definition: &TaskDefinition, what: Defined) -> io::Result<()> {
        let action = match what {
            Defined::Created => "created",
            Defined::Updated => "updated",
        };
        self.document(&json!({ "action": action, "definition": definition }))
    }

    fn definitions(&mut self, list: &DefinitionList, _now: Timestamp) -> io::Result<()> {
        self.document(list)
    }

    fn definition(&mut self, definition: &TaskDefinition, runs: &RunList, _now: Timestamp) -> io::Result<()> {
        self.document(&json!({ "definition": definition, "history": runs.history }))
    }

    fn launched(&mut self, run: &Run) -> io::Result<()> {
        self.document(run)
    }

    fn runs(&mut self, list: &RunList, _now: Timestamp) -> io::Result<()> {
        self.document(list)
    }

    fn run(&mut self, run: &Run, _now: Timestamp) -> io::Result<()> {
        self.document(run)
    }

    fn stopped(&mut self, runs: &[Stopped]) -> io::Result<()> {
        let answers: Vec<&StoppedRun> = runs.iter().map(|stopped| &stopped.answer).collect();
        self.document(&answers)
    }

    fn clusters(&mut self, list: &ClusterDetailList, _now: Timestamp) -> io::Result<()> {
        self.document(list)
    }

    fn cluster(&mut self, cluster: &Cluster) -> io::Result<()> {
        self.document(cluster)
    }

    fn adopted(&mut self, adopted: &ClusterAdopted) -> io::Result<()> {
        self.document(adopted)
    }

    fn following(&mut self, run: &Run) -> io::Result<()> {
        self.line(&Line::Launched { run })
    }

    fn status(&mut self, run: &Run) -> io::Result<()> {
        self.line(&Line::Status { run })
    }

    fn log(&mut self, chunk: &LogChunk) -> io::Result<()> {
        self.line(&Line::Log(chunk))
    }

    fn ended(&mut self, run: &Run) -> io::Result<()> {
        self.line(&Line::Ended { run })
    }

    fn raw(&mut self) -> Option<&mut dyn Write> {
        None
    }

    fn note(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.notes, "{text}")
    }
}
