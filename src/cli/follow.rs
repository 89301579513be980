//! Watching a run: its log as it comes, its changes of status, its end.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::output::Output;
use crate::client::{Client, ClientError, LogEvent};
use crate::model::{Outcome, Status};
use crate::wire::Run;

/// Said where a run has stopped and its log is not whole.
pub(super) const END_MISSING: &str = "the end of the log is not stored yet; `flotilla show` says why where that is known, and `flotilla logs` has it later";

/// How often a status that may change is asked for.
const STATUS_PERIOD: Duration = Duration::from_millis(500);
/// How long a server may be unavailable when only the run's end is still unknown.
const PATIENCE: Duration = Duration::from_mins(10);
/// 128 + SIGTERM: what a shell says of a command that was asked to end.
const STOPPED: u8 = 143;

/// Follows a run that was just launched, and stops it when interrupted. The run as it ended.
pub async fn launched(
    client: &Client,
    run: Run,
    output: &mut dyn Output,
    interrupt: &CancellationToken,
) -> anyhow::Result<Run> {
    output.following(&run)?;
    let mut watch = Watch { client, run, is_interrupted: false, is_stop_sent: false };
    watch.follow(output, interrupt).await?;
    output.end_log()?;
    let run = ended(client, &watch.run.run_id).await?;
    output.ended(&run)?;
    Ok(run)
}

/// Waits until the run is observed to have ended, over restarts of the server.
pub async fn ended(client: &Client, run_id: &str) -> Result<Run, ClientError> {
    let mut heard_at = Instant::now();
    loop {
        match client.run(run_id).await {
            Ok(run) if is_ended(&run) => return Ok(run),
            Ok(_) => heard_at = Instant::now(),
            Err(error) if !error.is_transient() || heard_at.elapsed() > PATIENCE => return Err(error),
            Err(_) => {}
        }
        sleep(STATUS_PERIOD).await;
    }
}

/// The task's own exit code, or what comes closest.
pub fn exit_code(run: &Run) -> u8 {
    match run.exit_code {
        // An engine could report a code that no process can exit with.
        Some(code) => u8::try_from(code).unwrap_or(1),
        None if run.outcome.as_deref() == Some(Outcome::Stopped.as_str()) => STOPPED,
        None => 1,
    }
}

pub fn is_ended(run: &Run) -> bool {
    run.status == Status::Stopped.as_str()
}

struct Watch<'a> {
    client: &'a Client,
    /// As last observed.
    run: Run,
    is_interrupted: bool,
    is_stop_sent: bool,
}

impl Watch<'_> {
    async fn follow(&mut self, output: &mut dyn Output, interrupt: &CancellationToken) -> anyhow::Result<()> {
        let mut log = self.client.follow_log(&self.run.run_id);
        let mut ticks = interval(STATUS_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = log.next() => match event {
                    Some(Ok(LogEvent::Chunk(chunk))) => {
                        if self.has_to_ask() {
                            self.look(output).await?;
                        }
                        output.log(&chunk)?;
                    }
                    Some(Ok(LogEvent::Waiting(error))) => output.note(&format!("{error}; trying again"))?,
                    Some(Ok(LogEvent::EndMissing)) => output.note(END_MISSING)?,
                    Some(Err(error)) => return Err(error.into()),
                    None => return Ok(()),
                },
                () = interrupt.cancelled(), if !self.is_interrupted => {
                    self.is_interrupted = true;
                    output.note(&format!("stopping run {}; a second signal leaves it to itself", self.run.run_id))?;
                    self.stop(output).await?;
                }
                _ = ticks.tick(), if self.has_to_ask() => {
                    self.look(output).await?;
                    if self.is_interrupted && !self.is_stop_sent {
                        self.stop(output).await?;
                    }
                }
            }
        }
    }

    /// Once it runs, the end of the log tells the rest.
    fn has_to_ask(&self) -> bool {
        let is_running = self.run.status == Status::Running.as_str() || is_ended(&self.run);
        !is_running || (self.is_interrupted && !self.is_stop_sent)
    }

    async fn look(&mut self, output: &mut dyn Output) -> anyhow::Result<()> {
        // Failed requests are retried; an unavailable server is reported where the log breaks.
        let Ok(run) = self.client.run(&self.run.run_id).await else { return Ok(()) };
        let is_news = run.status != self.run.status && !is_ended(&run);
        self.run = run;
        if is_news {
            output.status(&self.run)?;
        }
        Ok(())
    }

    async fn stop(&mut self, output: &mut dyn Output) -> anyhow::Result<()> {
        match self.client.stop(&self.run.definition_id, &self.run.run_id).await {
            Ok(_) => self.is_stop_sent = true,
            Err(error) if error.is_transient() => output.note(&format!("not stopped yet: {error}; trying again"))?,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
