//! Fetches an attempt's image and then launches the attempt, in the background.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::image::{in_path, of_task};
use super::launch::Made;
use super::launches::{Launching, Making};
use super::pull::{Progress, PullError};
use crate::engine::{EngineError, LaunchSpec};
use crate::model::{AttemptId, Event, ImageReference, StartFault};

/// How often a slow pull reports its progress.
const PROGRESS_PERIOD: Duration = Duration::from_secs(30);

impl Inner {
    /// Starts fetching the image of an attempt, which is recorded as pulling from now on.
    pub(super) fn spawn_fetch(self: &Arc<Self>, spec: LaunchSpec, making: Making<'_>) {
        let cancelled = CancellationToken::new();
        making.end(Some(Launching::Pulling(cancelled.clone())));
        let inner = Arc::clone(self);
        let work = async move {
            inner.fetch_and_make(&spec, &cancelled).await;
            inner.reports.changed(spec.attempt_id);
        };
        // Wherever the end of the cluster cuts it off, the container either was not started or can be observed.
        let until_closed = self.closing.clone().run_until_cancelled_owned(Box::pin(work));
        self.background.spawn(async move {
            until_closed.await;
        });
    }

    async fn fetch_and_make(self: &Arc<Self>, spec: &LaunchSpec, cancelled: &CancellationToken) {
        let attempt_id = spec.attempt_id;
        match cancelled.run_until_cancelled(Box::pin(self.fetch(spec))).await {
            None => return,
            Some(Ok(())) => {}
            Some(Err(error)) => return self.launches.fail_pull(attempt_id, cancelled, verdict(error)),
        }
        let Some(making) = self.launches.begin_after_pull(attempt_id, cancelled) else { return };
        let made = match self.make(spec).await {
            Ok(Made::ImageIsMissing) => {
                let reason = format!("image `{}` was fetched and has been removed since", spec.task.image);
                Err(EngineError::NotStarted { reason, fault: StartFault::Image })
            }
            made => made,
        };
        // If the daemon went away, there may still be a container, which then counts; otherwise it was not started.
        making.end(Some(match made {
            Ok(_) => Launching::Started,
            Err(error) => verdict(error),
        }));
    }

    /// Fetches the image, and reports it in the run's events.
    async fn fetch(self: &Arc<Self>, spec: &LaunchSpec) -> Result<(), EngineError> {
        let image = of_task(&spec.task.image)?;
        let (progress, was_begun) = self.pulls.follow(&image);
        let first = if was_begun {
            format!("waiting for image {image}, which is already being fetched")
        } else {
            format!("fetching image {image} from {}", image.registry())
        };
        self.note(spec.attempt_id, Event::normal(self.link.now(), "Pulling", first));
        let took = self.follow_pull(spec.attempt_id, &image, progress).await.map_err(|error| {
            let reason = format!("image `{image}` can't be fetched: {}", error.reason);
            match error.is_final {
                true => EngineError::Rejected(reason),
                false => EngineError::NotStarted { reason, fault: StartFault::Image },
            }
        })?;
        let path = in_path(&image.to_string());
        let size = self.link.call(async |docker| docker.inspect_image(&path).await).await;
        let size =
            size.ok().and_then(|image| image.size).map_or_else(String::new, |size| format!(" ({})", megabytes(size)));
        let message = format!("fetched image {image}{size} in {:.1} s", took.as_secs_f64());
        self.note(spec.attempt_id, Event::normal(self.link.now(), "Pulled", message));
        Ok(())
    }

    /// Waits for a pull, and reports the progress that a waiting user needs.
    async fn follow_pull(
        &self,
        attempt_id: AttemptId,
        image: &ImageReference,
        mut progress: watch::Receiver<Progress>,
    ) -> Result<Duration, PullError> {
        let mut told_at = Instant::now();
        loop {
            let now = progress.borrow_and_update().clone();
            match now {
                Progress::Done { took } => return Ok(took),
                Progress::Failed(error) => return Err(error),
                Progress::Waiting { reason, pause } => {
                    let message = format!("can't fetch image {image}, next try in {} s: {reason}", pause.as_secs());
                    self.note(attempt_id, Event::warning(self.link.now(), "PullFailed", message));
                }
                Progress::Pulling { bytes, of_bytes } if told_at.elapsed() > PROGRESS_PERIOD => {
                    told_at = Instant::now();
                    let message = format!("fetched {} of {} of image {image}", megabytes(bytes), megabytes(of_bytes));
                    self.note(attempt_id, Event::normal(self.link.now(), "Pulling", message));
                }
                Progress::Pulling { .. } => {}
            }
            if progress.changed().await.is_err() {
                let reason = "the pull was cancelled".to_owned();
                return Err(PullError { reason, is_final: false });
            }
        }
    }

    fn note(&self, attempt_id: AttemptId, event: Event) {
        self.reports.note(attempt_id, event.from_source("docker"));
    }
}

fn megabytes(bytes: i64) -> String {
    let tenths = bytes.max(0).saturating_mul(10) / (1 << 20);
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

fn verdict(error: EngineError) -> Launching {
    match error {
        EngineError::Rejected(reason) => Launching::never_ran(reason, StartFault::Task),
        EngineError::NotStarted { reason, fault } => Launching::never_ran(reason, fault),
        EngineError::Unavailable(reason) | EngineError::Gone(reason) => {
            Launching::never_ran(reason, StartFault::Machine)
        }
    }
}
