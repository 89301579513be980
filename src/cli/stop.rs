//! `flotilla stop`: ask runs to end.

use std::process::ExitCode;

use super::output::Stopped;
use super::{Context, follow};
use crate::client::{Client, ClientError};

const HELP: &str = "\
Examples:
  flotilla stop RUN
  flotilla stop $(flotilla ps -q --alias hello)

The run's processes get SIGTERM and, if that doesn't end them, SIGKILL. The server sees to it
until they have ended; this command doesn't wait for that. What has ended stays as it is.";

/// Stop runs
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Stop {
    /// The runs' ids
    #[arg(value_name = "RUN", required = true)]
    run_ids: Vec<String>,
}

impl Stop {
    /// All of them are tried; the first that failed is the error.
    pub async fn execute(self, context: &mut Context) -> anyhow::Result<ExitCode> {
        let mut stopped = Vec::new();
        let mut failures = Vec::new();
        for run_id in self.run_ids {
            match stop(&context.client, &run_id).await {
                Ok(run) => stopped.push(run),
                Err(error) => failures.push((run_id, error)),
            }
        }
        context.output.stopped(&stopped)?;
        let mut failures = failures.into_iter();
        let Some((_, first)) = failures.next() else { return Ok(ExitCode::SUCCESS) };
        for (_, error) in failures {
            if error != first {
                context.output.note(&format!("error: {error}"))?;
            }
        }
        Err(first.into())
    }
}

async fn stop(client: &Client, run_id: &str) -> Result<Stopped, ClientError> {
    let run = client.run(run_id).await?;
    let had_ended = follow::is_ended(&run);
    let answer = client.stop(&run.definition_id, &run.run_id).await?;
    Ok(Stopped { answer, had_ended })
}
