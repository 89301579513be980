//! `flotilla ps`: what runs, and what ran.

use std::process::ExitCode;

use super::Context;
use crate::client::RunFilter;
use crate::model::{Outcome, Status, UnknownWord};

const HELP: &str = "\
Examples:
  flotilla ps                       what waits or runs
  flotilla ps -a -n 100             the latest hundred, also those that have ended
  flotilla ps --status stopped --alias hello
  flotilla ps --outcome failed --outcome timed_out
  flotilla stop $(flotilla ps -q)   stop everything";

/// List runs, newest first: those that wait or run, unless asked otherwise
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Ps {
    /// Also runs that have ended
    #[arg(short, long, conflicts_with = "status")]
    all: bool,
    /// Only runs of this status; can be given several times
    #[arg(long, value_parser = parse_status)]
    status: Vec<Status>,
    /// Only runs that ended so: succeeded, failed, stopped, `timed_out`, lost or rejected; can be given several times
    #[arg(long, value_parser = parse_outcome, conflicts_with = "status")]
    outcome: Vec<Outcome>,
    /// Only runs of the task with this alias
    #[arg(long)]
    alias: Option<String>,
    /// Only runs on this cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// How many at most
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 50, allow_negative_numbers = true)]
    limit: u32,
}

impl Ps {
    pub async fn execute(self, context: &mut Context) -> anyhow::Result<ExitCode> {
        let is_any = self.all || !self.outcome.is_empty();
        let statuses = match (is_any, self.status.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => Status::ALL.into_iter().filter(|status| !status.is_terminal()).collect(),
            (false, false) => self.status,
        };
        let filter = RunFilter {
            statuses: statuses.iter().map(ToString::to_string).collect(),
            outcomes: self.outcome.iter().map(ToString::to_string).collect(),
            alias: self.alias,
            definition_id: None,
            cluster: self.cluster,
            limit: Some(self.limit),
        };
        let list = context.client.runs(&filter).await?;
        let now = context.now();
        context.output.runs(&list, now)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn parse_status(text: &str) -> Result<Status, String> {
    text.to_uppercase().parse().map_err(|error: UnknownWord| known(&error))
}

fn parse_outcome(text: &str) -> Result<Outcome, String> {
    text.to_lowercase().parse().map_err(|error: UnknownWord| known(&error))
}

fn known(error: &UnknownWord) -> String {
    format!("known are {}", error.known.join(", "))
}
