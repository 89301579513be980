//! `flotilla logs`: what a run has written.

use std::process::ExitCode;

use futures_util::{StreamExt, TryStreamExt};

use super::{Context, follow};
use crate::client::LogEvent;

const HELP: &str = "\
Examples:
  flotilla logs RUN > run.log      all of it so far, byte for byte
  flotilla logs -f RUN             and what comes, until the run ends

To a file or another program the log goes byte for byte. On a terminal its text and its colours
are shown, and other commands for the terminal are left out, unless --raw is given.

Ctrl-C leaves a followed run running.";

/// Print a run's log
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Logs {
    /// The run's id
    #[arg(value_name = "RUN")]
    run_id: String,
    /// Go on as the log grows, until the run has ended
    #[arg(short, long)]
    follow: bool,
    /// Give all of it to a terminal, also what moves its cursor or gives it other commands
    #[arg(long)]
    raw: bool,
}

impl Logs {
    pub async fn execute(self, context: &mut Context) -> anyhow::Result<ExitCode> {
        if self.raw {
            context.output.pass_commands();
        }
        match self.follow {
            true => self.follow(context).await?,
            false => self.print(context).await?,
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn print(&self, Context { client, output }: &mut Context) -> anyhow::Result<()> {
        if let Some(out) = output.raw() {
            let mut log = client.raw_log(&self.run_id).await?;
            while let Some(bytes) = log.bytes.try_next().await? {
                out.write_all(&bytes)?;
            }
            out.flush()?;
            if log.is_end_missing {
                output.note(follow::END_MISSING)?;
            }
            return Ok(());
        }
        let mut last_seen = None;
        loop {
            let chunk = client.log(&self.run_id, last_seen.as_deref()).await?;
            if chunk.log.is_empty() {
                output.end_log()?;
                if chunk.is_complete == Some(false) {
                    output.note(follow::END_MISSING)?;
                }
                return Ok(());
            }
            output.log(&chunk)?;
            last_seen = Some(chunk.last_seen);
        }
    }

    async fn follow(&self, Context { client, output }: &mut Context) -> anyhow::Result<()> {
        // A run that doesn't exist and a server that isn't there are told at once.
        client.run(&self.run_id).await?;
        let mut log = client.follow_log(&self.run_id);
        while let Some(event) = log.next().await {
            match event? {
                LogEvent::Chunk(chunk) => output.log(&chunk)?,
                LogEvent::Waiting(error) => output.note(&format!("{error}; trying again"))?,
                LogEvent::EndMissing => output.note(follow::END_MISSING)?,
            }
        }
        output.end_log()?;
        let run = follow::ended(client, &self.run_id).await?;
        output.ended(&run)?;
        Ok(())
    }
}
