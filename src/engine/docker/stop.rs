//! Stopping and removing. The daemon itself waits out the grace period, so that SIGKILL is sent even if the server is
//! away by then; this process only records for which attempts it does so, so that a repeated request does not repeat
//! SIGTERM.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{KillContainerOptions, RemoveContainerOptions, StopContainerOptions};
use jiff::SignedDuration;
use parking_lot::{Mutex, MutexGuard};

use super::Inner;
use super::inspect::{exit_code, finished_at, id_of};
use super::launches::ToStop;
use super::link::ApiError;
use super::read::{Stage, stage};
use crate::engine::EngineError;
use crate::model::AttemptId;

/// How long the daemon may take after the grace period, to kill and to clean up.
const STOP_MARGIN: Duration = Duration::from_secs(30);

/// How much earlier than the current grace period a new one must end to count.
const CLEARLY_SOONER: Duration = Duration::from_secs(1);

/// The attempts that this process has asked the daemon to stop, and when the daemon kills them: `None` if the daemon
/// is no longer stopping it.
#[derive(Default)]
pub(super) struct Stops(Mutex<HashMap<AttemptId, Option<Instant>>>);

/// What a stop request has to do.
enum Todo {
    Stop,
    /// SIGTERM was sent; kill it sooner than the daemon would.
    Kill,
    Nothing,
}

impl Stops {
    fn map(&self) -> MutexGuard<'_, HashMap<AttemptId, Option<Instant>>> {
        self.0.lock()
    }

    pub(super) fn was_asked(&self, attempt_id: AttemptId) -> bool {
        self.map().contains_key(&attempt_id)
    }

    fn ask(&self, attempt_id: AttemptId, grace: Duration) -> Todo {
        let end = Instant::now() + grace;
        let mut map = self.map();
        match map.get(&attempt_id).copied().flatten() {
            Some(known) if known <= end + CLEARLY_SOONER => Todo::Nothing,
            known => {
                map.insert(attempt_id, Some(end));
                if known.is_some() { Todo::Kill } else { Todo::Stop }
            }
        }
    }

    fn remove(&self, attempt_id: AttemptId) {
        self.map().remove(&attempt_id);
    }
}

/// Failed containers kept for inspection, and until when. The next sweep after that removes them.
#[derive(Default)]
pub(super) struct Kept(Mutex<HashMap<AttemptId, Instant>>);

impl Kept {
    fn keep(&self, attempt_id: AttemptId, time: Duration) {
        let now = Instant::now();
        let mut kept = self.0.lock();
        kept.retain(|_, until| *until > now);
        kept.insert(attempt_id, now + time);
    }

    pub(super) fn is_kept(&self, attempt_id: AttemptId) -> bool {
        let kept = self.0.lock();
        kept.get(&attempt_id).is_some_and(|until| *until > Instant::now())
    }
}

impl Inner {
    pub(super) async fn stop(self: &Arc<Self>, attempt_id: AttemptId, grace: Duration) -> Result<(), EngineError> {
        match self.launches.stop(attempt_id) {
            ToStop::Nothing => {
                self.reports.changed(attempt_id);
                return Ok(());
            }
            ToStop::NotYet => return Ok(()),
            ToStop::Container => {}
        }
        let Some(container) = self.find(attempt_id).await? else {
            return Err(EngineError::Gone(format!("attempt {attempt_id} has no container")));
        };
        match stage(&container) {
            Stage::Running => self.stop_running(attempt_id, id_of(&container).to_owned(), grace),
            // Its start is under way, or will be seen to have failed.
            Stage::Created | Stage::Failed => {}
            Stage::Ended => return Err(EngineError::Gone(format!("attempt {attempt_id} has ended"))),
        }
        Ok(())
    }

    fn stop_running(self: &Arc<Self>, attempt_id: AttemptId, id: String, grace: Duration) {
        let todo = self.stops.ask(attempt_id, grace);
        let inner = Arc::clone(self);
        let work = async move {
            match todo {
                Todo::Stop => inner.stop_container(attempt_id, &id, grace).await,
                Todo::Kill => inner.kill_container(attempt_id, &id, grace).await,
                Todo::Nothing => {}
            }
        };
        let until_closed = self.closing.clone().run_until_cancelled_owned(work);
        tokio::spawn(async move {
            until_closed.await;
        });
    }

    /// Shortens the grace period of a container that is being stopped, without another SIGTERM.
    async fn kill_container(&self, attempt_id: AttemptId, id: &str, grace: Duration) {
        tokio::time::sleep(grace).await;
        let options = KillContainerOptions { signal: "SIGKILL".to_owned() };
        match self.link.call(async |docker| docker.kill_container(id, Some(options)).await).await {
            Ok(()) => {}
            // It has ended.
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => {
                tracing::warn!(%attempt_id, %error, "can't kill a container early; its longer grace period applies");
            }
        }
    }

    async fn stop_container(&self, attempt_id: AttemptId, id: &str, grace: Duration) {
        // Docker counts whole seconds; rounding down could leave no grace period at all.
        let secs = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let options = StopContainerOptions { signal: None, t: Some(i32::try_from(secs).unwrap_or(i32::MAX)) };
        let limit = grace + STOP_MARGIN;
        let stop = async |docker: bollard::Docker| docker.with_timeout(limit).stop_container(id, Some(options)).await;
        let result = self.link.call_within(limit, stop).await;
        if let Err(error) = result
            && !error.is_not_found()
        {
            tracing::warn!(%attempt_id, %error, "can't stop a container; it is asked again");
        }
        if let Some(killed_by) = self.stops.map().get_mut(&attempt_id) {
            *killed_by = None;
        }
    }

    /// Removes what is left of an attempt; keeps a failed container for its configured time.
    pub(super) async fn remove(&self, attempt_id: AttemptId) -> Result<(), EngineError> {
        if !self.launches.remove(attempt_id) {
            return Err(EngineError::Unavailable("its container is being created".to_owned()));
        }
        let Some(container) = self.find(attempt_id).await? else {
            self.forget(attempt_id);
            return Ok(());
        };
        match self.still_kept_for(&container) {
            Some(time) => self.kept.keep(attempt_id, time),
            None => self.remove_container(id_of(&container), true).await?,
        }
        self.forget(attempt_id);
        Ok(())
    }

    /// How much longer a failed container is to be kept, by the daemon's clock, which also recorded its end.
    fn still_kept_for(&self, container: &ContainerInspectResponse) -> Option<Duration> {
        let kept_for = SignedDuration::from_secs(i64::from(self.config.keep_failed_secs));
        let has_failed = stage(container) == Stage::Ended && exit_code(container) != 0;
        let ended_since = self.link.clock()?.at(Instant::now()).duration_since(finished_at(container)?);
        let rest = Duration::try_from(kept_for - ended_since.max(SignedDuration::ZERO)).ok()?;
        (has_failed && !rest.is_zero()).then_some(rest)
    }

    fn forget(&self, attempt_id: AttemptId) {
        self.seen.remove(attempt_id);
        self.stops.remove(attempt_id);
    }

    /// Removes a container and its unnamed volumes; a running one only with `force`.
    pub(super) async fn remove_container(&self, id: &str, force: bool) -> Result<(), ApiError> {
        let options = RemoveContainerOptions { v: true, force, link: false };
        match self.link.call(async |docker| docker.remove_container(id, Some(options)).await).await {
            Err(error) if error.is_not_found() => Ok(()),
            // It is already being removed by another client.
            Err(ApiError::Refused { status: 409, message }) if message.contains("already in progress") => Ok(()),
            result => result,
        }
    }
}
