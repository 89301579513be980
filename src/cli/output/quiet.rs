//! Only what a script reads: ids and logs.

use std::io::{self, Write};

use jiff::Timestamp;

use super::{Defined, Output, Stopped};
use crate::cli::terminal::LogWriter;
use crate::cli::words;
use crate::wire::{Cluster, ClusterAdopted, ClusterDetailList, DefinitionList, LogChunk, Run, RunList, TaskDefinition};

pub struct Quiet<W> {
    out: W,
    log: LogWriter,
}

impl<W: Write> Quiet<W> {
    pub fn new(out: W, log: LogWriter) -> Self {
        Self { out, log }
    }

    fn lines<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
        for line in lines {
            writeln!(self.out, "{}", words::plain(line))?;
        }
        self.out.flush()
    }
}

impl<W: Write> Output for Quiet<W> {
    fn defined(&mut self, definition: &TaskDefinition, _what: Defined) -> io::Result<()> {
        self.lines([definition.definition_id.as_str()])
    }

    fn definitions(&mut self, list: &DefinitionList, _now: Timestamp) -> io::Result<()> {
        self.lines(list.definitions.iter().map(|definition| definition.definition_id.as_str()))
    }

    fn definition(&mut self, definition: &TaskDefinition, _runs: &RunList, _now: Timestamp) -> io::Result<()> {
        self.lines([definition.definition_id.as_str()])
    }

    fn launched(&mut self, run: &Run) -> io::Result<()> {
        self.lines([run.run_id.as_str()])
    }

    fn runs(&mut self, list: &RunList, _now: Timestamp) -> io::Result<()> {
        self.lines(list.history.iter().map(|run| run.run_id.as_str()))
    }

    fn run(&mut self, run: &Run, _now: Timestamp) -> io::Result<()> {
        self.lines([run.run_id.as_str()])
    }

    fn stopped(&mut self, runs: &[Stopped]) -> io::Result<()> {
        self.lines(runs.iter().map(|stopped| stopped.answer.run.run_id.as_str()))
    }

    fn clusters(&mut self, list: &ClusterDetailList, _now: Timestamp) -> io::Result<()> {
        self.lines(list.clusters.iter().map(|cluster| cluster.name.as_str()))
    }

    fn cluster(&mut self, cluster: &Cluster) -> io::Result<()> {
        self.lines([cluster.name.as_str()])
    }

    fn adopted(&mut self, adopted: &ClusterAdopted) -> io::Result<()> {
        self.lines([adopted.id.as_str()])
    }

    fn following(&mut self, _run: &Run) -> io::Result<()> {
        Ok(())
    }

    fn status(&mut self, _run: &Run) -> io::Result<()> {
        Ok(())
    }

    fn log(&mut self, chunk: &LogChunk) -> io::Result<()> {
        self.log.write(&mut self.out, &chunk.bytes())
    }

    fn end_log(&mut self) -> io::Result<()> {
        self.log.end(&mut self.out)
    }

    fn pass_commands(&mut self) {
        self.log = LogWriter::AsItIs;
    }

    fn ended(&mut self, _run: &Run) -> io::Result<()> {
        Ok(())
    }

    fn raw(&mut self) -> Option<&mut dyn Write> {
        self.log.is_exact().then_some(&mut self.out)
    }

    fn note(&mut self, _text: &str) -> io::Result<()> {
        Ok(())
    }
}
