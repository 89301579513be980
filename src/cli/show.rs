//! `flotilla show`: everything known about a run or a task.

use std::process::ExitCode;

use super::Context;
use crate::client::{Client, ClientError, RunFilter};
use crate::clock::Clock;
use crate::model::RunId;
use crate::wire::{Run, TaskDefinition};

/// How many of a task's runs are shown with it.
const LATEST_RUNS: u32 = 5;

const HELP: &str = "\
Examples:
  flotilla show RUN      when it was queued, started and finished, how it ended and why, its events
  flotilla show hello    the definition, and its latest runs";

/// Tell the story of a run, or show a task's definition
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Show {
    /// A run's id, or a task's alias or definition id
    #[arg(value_name = "RUN|ALIAS")]
    name: String,
}

impl Show {
    pub async fn execute(self, Context { client, output }: &mut Context) -> anyhow::Result<ExitCode> {
        let now = || client.now(Clock::system().now());
        if self.name.parse::<RunId>().is_ok() {
            match run_with_events(client, &self.name).await {
                // An alias can look like a run's id.
                Err(unknown_run) if unknown_run.is_not_found() => match definition(client, &self.name).await {
                    Err(unknown) if unknown.is_not_found() => return Err(unknown_run.into()),
                    _ => {}
                },
                run => {
                    output.run(&run?, now())?;
                    return Ok(ExitCode::SUCCESS);
                }
            }
        }
        let definition = definition(client, &self.name).await?;
        let definition_id = Some(definition.definition_id.clone());
        let filter = RunFilter { definition_id, limit: Some(LATEST_RUNS), ..RunFilter::default() };
        let runs = client.runs(&filter).await?;
        output.definition(&definition, &runs, now())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The run with its events, which an older server returns only on request.
pub async fn run_with_events(client: &Client, run_id: &str) -> Result<Run, ClientError> {
    let mut run = client.run(run_id).await?;
    if run.pod_events.is_none() {
        run.pod_events = Some(client.events(run_id).await?.pod_events);
    }
    Ok(run)
}

async fn definition(client: &Client, name: &str) -> Result<TaskDefinition, ClientError> {
    match client.task_by_alias(name).await {
        Err(unknown_alias) if unknown_alias.is_not_found() => match client.task(name).await {
            Err(unknown_id) if unknown_id.is_not_found() => Err(unknown_alias),
            found => found,
        },
        found => found,
    }
}
