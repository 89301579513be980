//! For programs: one JSON document a command, or one JSON object a line where things come one after another.
//!
//! A line has a `type`: `launched`, `status` and `ended` with the `run`, `log` with a piece of the log and its token.

use std::borrow::Cow;
use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::{Defined, Output, Stopped};
use crate::cli::words;
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
        let text = serde_json::to_string_pretty(document)?;
        self.end_line(&text)
    }

    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        let text = serde_json::to_string(line)?;
        self.end_line(&text)
    }

    fn end_line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", escaped(text))?;
        self.out.flush()
    }
}

/// JSON in which no character is a command for a terminal: of those, it leaves the later ones as they are.
fn escaped(json: &str) -> Cow<'_, str> {
    let is_command = |c: char| matches!(c, '\u{7f}'..='\u{9f}');
    if !json.contains(is_command) {
        return Cow::Borrowed(json);
    }
    // They can only be within texts.
    json.chars()
        .fold(String::with_capacity(json.len()), |mut text, c| {
            match is_command(c) {
                true => text.push_str(&format!("\\u{:04x}", u32::from(c))),
                false => text.push(c),
            }
            text
        })
        .into()
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

    fn end_log(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn pass_commands(&mut self) {}

    fn ended(&mut self, run: &Run) -> io::Result<()> {
        self.line(&Line::Ended { run })
    }

    fn raw(&mut self) -> Option<&mut dyn Write> {
        None
    }

    fn note(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.notes, "{}", words::plain(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_of_a_document_is_a_command_for_a_terminal() {
        let document = json!({"a\u{9b}": "\u{1b}[2J\u{9d}0;x\u{7f}\u{85} é 😀"});
        let mut out = Vec::new();
        Json::new(&mut out, io::sink()).document(&document).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), document);
    }
}
