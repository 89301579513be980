//! For people: tables, a run's story, remarks on standard error.

use std::io::{self, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table};
use jiff::Timestamp;

use super::{Defined, Output, Stopped};
use crate::cli::terminal::LogWriter;
use crate::cli::words;
use crate::model::{ClusterStatus, Status};
use crate::wire::{
    Cluster, ClusterAdopted, ClusterDetailList, DefinitionList, EnvVarBody, LogChunk, PodEvent, Run, RunList,
    TaskDefinition,
};

pub struct Text<W, N> {
    out: W,
    notes: N,
    log: LogWriter,
}

impl<W: Write, N: Write> Text<W, N> {
    pub fn new(out: W, notes: N, log: LogWriter) -> Self {
        Self { out, notes, log }
    }

    fn table(&mut self, header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(header).add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2)).set_cell_alignment(CellAlignment::Left);
        }
        for line in table.lines() {
            writeln!(self.out, "{}", line.trim_end())?;
        }
        self.out.flush()
    }

    /// `name   value`, for a value of several lines each below the other.
    fn field(&mut self, name: &str, value: &str) -> io::Result<()> {
        let mut lines = words::plain_lines(value);
        let first = lines.next().unwrap_or_default();
        writeln!(self.out, "{}", format!("{name:<12} {first}").trim_end())?;
        for line in lines {
            writeln!(self.out, "{}", format!("{:<12} {line}", "").trim_end())?;
        }
        Ok(())
    }

    fn optional(&mut self, name: &str, value: Option<impl AsRef<str>>) -> io::Result<()> {
        value.map_or(Ok(()), |value| self.field(name, value.as_ref()))
    }

    fn env(&mut self, env: &[EnvVarBody]) -> io::Result<()> {
        let lines = env.iter().map(|var| format!("{}={}", var.name, words::plain(var.value.as_deref().unwrap_or(""))));
        let lines: Vec<String> = lines.collect();
        self.optional("env", Some(lines.join("\n")).filter(|text| !text.is_empty()))
    }

    fn list(&mut self, name: &str, words: &[String]) -> io::Result<()> {
        self.optional(name, Some(words.join(", ")).filter(|text| !text.is_empty()))
    }

    fn events(&mut self, events: &[PodEvent]) -> io::Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        writeln!(self.out, "\nevents")?;
        let width = events.iter().map(|event| event.reason.chars().count()).max().unwrap_or_default();
        for event in events {
            let mark = if event.event_type == "Warning" { "!" } else { " " };
            let at = words::time_of_day(event.timestamp);
            let reason = words::plain(&event.reason);
            writeln!(self.out, "  {at} {mark} {reason:<width$}  {}", words::plain(&event.message))?;
        }
        Ok(())
    }
}

impl<W: Write, N: Write> Output for Text<W, N> {
    fn defined(&mut self, definition: &TaskDefinition, what: Defined) -> io::Result<()> {
        let verb = match what {
            Defined::Created => "created",
            Defined::Updated => "updated",
        };
        writeln!(self.out, "{verb} {} ({})", words::plain(name(definition)), words::plain(&definition.definition_id))?;
        self.out.flush()?;
        let name = shell_word(name(definition));
        // What begins with `-` would be taken for an option.
        let arguments = if name.starts_with('-') { format!("--follow -- {name}") } else { format!("{name} --follow") };
        self.note(&format!("run it with: flotilla run {arguments}"))
    }

    fn definitions(&mut self, list: &DefinitionList, now: Timestamp) -> io::Result<()> {
        if list.definitions.is_empty() {
            return self.note("no tasks");
        }
        let row = |definition: &TaskDefinition| {
            vec![
                words::plain(name(definition)),
                words::plain(&definition.group_name),
                words::plain(&definition.image),
                number(definition.memory, " MB"),
                words::plain(&definition.tags.join(",")),
                words::age(definition.updated_at, now),
            ]
        };
        let header = ["TASK", "GROUP", "IMAGE", "MEMORY", "TAGS", "UPDATED"];
        self.table(&header, list.definitions.iter().map(row))?;
        self.note_rest(list.definitions.len(), list.total)
    }

    fn definition(&mut self, definition: &TaskDefinition, runs: &RunList, now: Timestamp) -> io::Result<()> {
        self.field("task", name(definition))?;
        self.field("id", &definition.definition_id)?;
        self.field("group", &definition.group_name)?;
        self.field("image", &definition.image)?;
        self.field("command", &definition.command)?;
        self.env(&definition.env)?;
        self.optional("memory", definition.memory.map(|memory| format!("{memory} MB")))?;
        self.optional("cpu", definition.cpu.map(cores))?;
        self.optional("gpu", definition.gpu.filter(|gpu| *gpu > 0).map(|gpu| gpu.to_string()))?;
        self.optional("storage", definition.ephemeral_storage.map(|storage| format!("{storage} MB")))?;
        self.list("tags", &definition.tags)?;
        self.field("created", &words::time(definition.created_at))?;
        self.field("updated", &words::time(definition.updated_at))?;
        if !runs.history.is_empty() {
            writeln!(self.out, "\nlatest runs of {}", runs.total)?;
            self.runs_table(&runs.history, now)?;
        }
        self.out.flush()
    }

    fn launched(&mut self, run: &Run) -> io::Result<()> {
        writeln!(self.out, "{}", words::plain(&run.run_id))?;
        self.out.flush()?;
        self.note(&format!(
            "{} on cluster {}; follow it with: flotilla logs -f {}",
            status(run),
            run.cluster,
            run.run_id
        ))
    }

    fn runs(&mut self, list: &RunList, now: Timestamp) -> io::Result<()> {
        if list.history.is_empty() {
            return self.note("no such runs");
        }
        self.runs_table(&list.history, now)?;
        self.note_rest(list.history.len(), list.total)
    }

    fn run(&mut self, run: &Run, now: Timestamp) -> io::Result<()> {
        self.field("run", &run.run_id)?;
        self.field("task", &format!("{} (group {})", task(run), run.group_name))?;
        self.field("status", &status(run))?;
        self.optional("exit code", run.exit_code.map(|code| code.to_string()))?;
        self.optional("reason", run.exit_reason.as_deref())?;
        let why = if run.status == "QUEUED" { "it waits" } else { "not seen" };
        self.optional(why, run.waiting_reason.as_deref())?;
        self.field("queued", &words::time(run.queued_at))?;
        let waited = |at: Timestamp| words::duration(at.duration_since(run.queued_at));
        self.optional(
            "started",
            run.started_at.map(|at| format!("{}, after {} of waiting", words::time(at), waited(at))),
        )?;
        let run_time = words::run_time(run, now).map(words::duration);
        match (run.finished_at, run_time) {
            (Some(at), Some(run_time)) => {
                self.field("finished", &format!("{}, after running for {run_time}", words::time(at)))?;
            }
            (Some(at), None) => self.field("finished", &words::time(at))?,
            (None, Some(run_time)) => self.field("running for", &run_time)?,
            (None, None) => self.field("waiting for", &waited(now))?,
        }
        self.optional("peak memory", run.max_memory_used.map(|peak| of_limit(peak, run.memory_limit)))?;
        let cpu_time = run.cpu_time_ms.map(jiff::SignedDuration::from_millis);
        self.optional("CPU time", cpu_time.map(words::duration))?;
        self.optional("attempts", Some(run.attempt_count.to_string()).filter(|_| run.attempt_count > 1))?;
        self.field("cluster", &format!("{} ({} engine)", run.cluster, run.engine))?;
        let host = [&run.instance.instance_id, &run.instance.dns_name].map(|word| words::plain(word));
        self.optional("instance", Some(host.join(" ").trim()).filter(|text| !text.is_empty()))?;
        self.field("owner", &run.user)?;
        self.optional("description", run.description.as_deref())?;
        let labels: Vec<String> = run.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        self.list("labels", &labels)?;
        self.field("image", &run.image)?;
        self.field("command", &run.command)?;
        self.env(&run.env)?;
        self.optional("parent", run.parent_run_id.as_deref())?;
        let children: Vec<String> = run.spawned_runs.iter().flatten().map(|child| child.run_id.clone()).collect();
        self.optional("children", Some(children.join("\n")).filter(|text| !text.is_empty()))?;
        self.events(run.pod_events.as_deref().unwrap_or_default())?;
        self.out.flush()
    }

    fn stopped(&mut self, runs: &[Stopped]) -> io::Result<()> {
        for Stopped { answer, had_ended } in runs {
            let run = &answer.run;
            let run_id = words::plain(&run.run_id);
            let has_ended = run.status == Status::Stopped.as_str();
            match (had_ended, has_ended) {
                (true, _) => writeln!(self.out, "{run_id} had ended already: {}", words::end(run))?,
                (false, true) => writeln!(self.out, "{run_id} {}", words::end(run))?,
                (false, false) => writeln!(self.out, "{run_id} is being stopped")?,
            }
        }
        self.out.flush()
    }

    fn clusters(&mut self, list: &ClusterDetailList, now: Timestamp) -> io::Result<()> {
        let row = |cluster: &Cluster| {
            let mark = if cluster.is_default { " (default)" } else { "" };
            let taken = cluster.running + cluster.pending;
            vec![
                format!("{}{mark}", words::plain(&cluster.name)),
                cluster.engine.as_deref().map_or_else(|| "-".to_owned(), words::plain),
                words::plain(&cluster.status),
                cluster.max_running.map_or_else(|| taken.to_string(), |most| format!("{taken} of {most}")),
                (cluster.queued + cluster.needs_retry).to_string(),
                words::plain(&remark(cluster, now)),
            ]
        };
        self.table(&["CLUSTER", "ENGINE", "STATUS", "RUNNING", "WAITING", ""], list.clusters.iter().map(row))
    }

    fn cluster(&mut self, cluster: &Cluster) -> io::Result<()> {
        let (name, running) = (words::plain(&cluster.name), cluster.running + cluster.pending);
        let waiting = cluster.queued + cluster.needs_retry;
        writeln!(self.out, "{name} is {}; {running} running, {waiting} waiting", words::plain(&cluster.status))?;
        self.out.flush()
    }

    fn adopted(&mut self, adopted: &ClusterAdopted) -> io::Result<()> {
        let number = match adopted.adopted {
            0 => "no run of another engine was left".to_owned(),
            1 => "1 run of another engine is its own now".to_owned(),
            number => format!("{number} runs of other engines are its own now"),
        };
        writeln!(self.out, "{}: {number}", words::plain(&adopted.id))?;
        self.out.flush()
    }

    fn following(&mut self, run: &Run) -> io::Result<()> {
        self.note(&format!("run {} of {} on cluster {}", run.run_id, task(run), run.cluster))
    }

    fn status(&mut self, run: &Run) -> io::Result<()> {
        let reason =
            run.exit_reason.as_deref().map_or_else(String::new, |reason| format!(": {}", words::plain(reason)));
        self.note(&format!("status {}{reason}", status(run)))
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

    fn ended(&mut self, run: &Run) -> io::Result<()> {
        let run_time = match (run.started_at, run.finished_at) {
            (Some(started_at), Some(finished_at)) => {
                format!(" (ran for {})", words::duration(finished_at.duration_since(started_at)))
            }
            _ => String::new(),
        };
        self.note(&format!("run {} {}{run_time}", run.run_id, words::end(run)))
    }

    fn raw(&mut self) -> Option<&mut dyn Write> {
        self.log.is_exact().then_some(&mut self.out)
    }

    fn note(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.notes, "{}", words::plain(text))
    }
}

impl<W: Write, N: Write> Text<W, N> {
    fn runs_table(&mut self, runs: &[Run], now: Timestamp) -> io::Result<()> {
        let row = |run: &Run| {
            vec![
                words::plain(&run.run_id),
                task(run),
                words::plain(&run.cluster),
                status(run),
                words::age(run.queued_at, now),
                words::run_time(run, now).map_or_else(|| "-".to_owned(), words::duration),
                number(run.exit_code, ""),
            ]
        };
        self.table(&["RUN", "TASK", "CLUSTER", "STATUS", "AGE", "RAN FOR", "EXIT"], runs.iter().map(row))
    }

    fn note_rest(&mut self, shown: usize, total: u64) -> io::Result<()> {
        if u64::try_from(shown).is_ok_and(|shown| shown < total) {
            return self.note(&format!("{shown} of {total}; -n shows more"));
        }
        Ok(())
    }
}

/// What keeps a cluster from starting runs, if anything does.
fn remark(cluster: &Cluster, now: Timestamp) -> String {
    if cluster.engine.is_none() {
        return "this server has no such cluster".to_owned();
    }
    if let Some(reason) = &cluster.unreachable_reason {
        let age =
            cluster.unreachable_since.map_or_else(String::new, |since| format!(" for {}", words::age(since, now)));
        return format!("can't be reached{age}: {reason}");
    }
    match (cluster.status == ClusterStatus::Active.as_str(), cluster.status_reason.as_str()) {
        (true, reason) => reason.to_owned(),
        (false, "") => format!("for {}", words::age(cluster.status_since, now)),
        (false, reason) => format!("for {}: {reason}", words::age(cluster.status_since, now)),
    }
}

/// `RUNNING`, `STOPPED (timed out)`
fn status(run: &Run) -> String {
    let status = words::plain(&run.status);
    if run.outcome.is_some() { format!("{status} ({})", words::outcome(run)) } else { status }
}

/// What a definition is called by.
fn name(definition: &TaskDefinition) -> &str {
    if definition.alias.is_empty() { &definition.definition_id } else { &definition.alias }
}

fn task(run: &Run) -> String {
    words::plain(if run.alias.is_empty() { &run.definition_id } else { &run.alias })
}

fn number(number: Option<i64>, unit: &str) -> String {
    number.map_or_else(|| "-".to_owned(), |number| format!("{number}{unit}"))
}

fn of_limit(peak: i64, limit: Option<i64>) -> String {
    limit.map_or_else(|| format!("{peak} MB"), |limit| format!("{peak} MB of {limit} MB"))
}

fn cores(millis: i64) -> String {
    format!("{millis}/1000 of a core")
}

/// As it can be typed into a shell.
fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", words::plain(word).replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_typed_into_a_shell() {
        for (word, typed) in
            [("hello-1", "hello-1"), ("two words", "'two words'"), ("it's", r"'it'\''s'"), ("$x", "'$x'"), ("", "''")]
        {
            assert_eq!(shell_word(word), typed);
        }
    }

    #[test]
    fn a_table_has_no_trailing_blanks_and_is_not_cut() {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let rows = vec![vec!["a".to_owned(), "x".repeat(300)], vec!["bb".to_owned(), String::new()]];
        Text::new(&mut out, &mut notes, LogWriter::AsItIs).table(&["ONE", "TWO"], rows.into_iter()).unwrap();
        let expected = format!("ONE  TWO\na    {}\nbb\n", "x".repeat(300));
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
