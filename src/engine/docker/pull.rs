//! Fetching images: one pull for all attempts that need the same image, retried for a while if a registry is
//! unreachable, with short progress reports.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptions;
use futures_util::{Stream, StreamExt};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::credentials;
use super::link::{ApiError, Link};
use super::settings::DockerSettings;
use crate::engine::container::refusal::is_final;
use crate::model::ImageReference;

/// The pauses between the tries of one pull. After them the attempt is given back, to be retried later.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(15)];
/// How long the daemon may send nothing at all while it pulls.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);

/// The progress of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// Bytes of the layers that the daemon has started on.
    Pulling {
        bytes: i64,
        of_bytes: i64,
    },
    Waiting {
        reason: String,
        pause: Duration,
    },
    Done {
        took: Duration,
    },
    Failed(PullError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PullError {
    pub reason: String,
    /// It can never succeed.
    pub is_final: bool,
}

pub(super) struct Pulls {
    link: Arc<Link>,
    config: Arc<DockerSettings>,
    running: Mutex<HashMap<String, watch::Sender<Progress>>>,
}

impl Pulls {
    pub(super) fn new(link: Arc<Link>, config: Arc<DockerSettings>) -> Self {
        Self { link, config, running: Mutex::default() }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Progress>>> {
        self.running.lock()
    }

    /// Follows the pull of an image, starting it if none is running; also returns whether one was. A pull without
    /// followers is cancelled.
    pub(super) fn follow(self: &Arc<Self>, image: &ImageReference) -> (watch::Receiver<Progress>, bool) {
        let mut running = self.running();
        let key = image.to_string();
        if let Some(progress) = running.get(&key) {
            return (progress.subscribe(), true);
        }
        let (sender, receiver) = watch::channel(Progress::Pulling { bytes: 0, of_bytes: 0 });
        running.insert(key.clone(), sender.clone());
        let (pulls, image) = (Arc::clone(self), image.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    result = pulls.pull(&image, &sender) => {
                        // Later callers start a new pull, so the entry is removed before the result is published.
                        pulls.running().remove(&key);
                        sender.send_replace(result);
                        return;
                    }
                    () = sender.closed() => {}
                }
                let mut running = pulls.running();
                if sender.receiver_count() == 0 {
                    running.remove(&key);
                    return;
                }
            }
        });
        (receiver, false)
    }

    async fn pull(&self, image: &ImageReference, progress: &watch::Sender<Progress>) -> Progress {
        let begin = Instant::now();
        let mut pauses = PAUSES.into_iter();
        loop {
            match self.try_pull(image, progress).await {
                Ok(()) => return Progress::Done { took: begin.elapsed() },
                Err(error) if error.is_final => return Progress::Failed(error),
                Err(error) => match pauses.next() {
                    Some(pause) => {
                        progress.send_replace(Progress::Waiting { reason: error.reason, pause });
                        tokio::time::sleep(pause).await;
                    }
                    None => return Progress::Failed(error),
                },
            }
        }
    }

    async fn try_pull(&self, image: &ImageReference, progress: &watch::Sender<Progress>) -> Result<(), PullError> {
        let failed = |error: ApiError| match error {
            ApiError::Refused { status, message } => {
                PullError { is_final: is_final(status, &message), reason: message }
            }
            ApiError::Away(reason) => PullError { is_final: false, reason },
        };
        let credentials = credentials::find(self.config.credentials_file.as_deref(), image).await;
        let credentials = credentials.map_err(|reason| PullError { reason, is_final: false })?;
        let docker = self.link.docker().await.map_err(failed)?;
        let options = CreateImageOptions { from_image: Some(image.to_string()), ..CreateImageOptions::default() };
        let steps = docker.create_image(Some(options), None, credentials);
        let limit = Duration::from_secs(u64::from(self.config.pull_timeout_secs));
        match tokio::time::timeout(limit, follow_steps(steps, progress)).await {
            Ok(result) => result.map_err(|error| failed(self.link.missed(error))),
            Err(_) => {
                let reason = format!("it was not fetched within the {} s that a try may take", limit.as_secs());
                Err(PullError { reason, is_final: false })
            }
        }
    }
}

async fn follow_steps(
    steps: impl Stream<Item = Result<CreateImageInfo, bollard::errors::Error>>,
    progress: &watch::Sender<Progress>,
) -> Result<(), ApiError> {
    let mut steps = std::pin::pin!(steps);
    let mut layers = Layers::default();
    loop {
        let step = tokio::time::timeout(IDLE_TIMEOUT, steps.next()).await;
        let step = step.map_err(|_| ApiError::Away("the daemon has stopped reporting on a pull".to_owned()))?;
        let Some(step) = step else { return Ok(()) };
        if let Some(news) = layers.add(&step?) {
            progress.send_replace(news);
        }
    }
}

/// The layers of an image, and how much of each was downloaded.
#[derive(Default)]
struct Layers(HashMap<String, (i64, i64)>);

impl Layers {
    fn add(&mut self, step: &CreateImageInfo) -> Option<Progress> {
        let (id, detail) = (step.id.clone()?, step.progress_detail.as_ref()?);
        // Unpacking reports the same numbers again.
        let is_download = step.status.as_deref() == Some("Downloading");
        let (bytes, of_bytes) = (detail.current?, detail.total.filter(|total| *total > 0)?);
        if !is_download {
            return None;
        }
        self.0.insert(id, (bytes, of_bytes));
        let (bytes, of_bytes) = self.0.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
        Some(Progress::Pulling { bytes, of_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_the_sum_of_the_layers() {
        let step = |id: &str, status: &str, current: i64| {
            let value = serde_json::json!({ "id": id, "status": status,
                "progressDetail": { "current": current, "total": 100 } });
            serde_json::from_value::<CreateImageInfo>(value).unwrap()
        };
        let mut layers = Layers::default();
        assert_eq!(layers.add(&step("a", "Downloading", 10)), Some(Progress::Pulling { bytes: 10, of_bytes: 100 }));
        assert_eq!(layers.add(&step("b", "Downloading", 50)), Some(Progress::Pulling { bytes: 60, of_bytes: 200 }));
        assert_eq!(layers.add(&step("b", "Extracting", 5)), None);
        assert_eq!(layers.add(&CreateImageInfo::default()), None);
    }
}
