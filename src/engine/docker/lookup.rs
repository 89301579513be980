//! Checks whether an image is available before a run that needs it is accepted.
//!
//! The daemon itself queries the registry: it has the network, the mirrors and the certificates that the pull will
//! use, which the server's machine may not have. Only a definite answer rejects a run, never a missing one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::credentials;
use super::image::{in_path, of_task};
use super::link::{ApiError, Link};
use super::settings::DockerSettings;
use crate::engine::EngineError;
use crate::engine::container::pull_policy::PullPolicy;
use crate::engine::container::refusal::is_final;
use crate::model::ImageReference;

/// The maximum time a launch waits for the daemon, and then for a registry.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an image that was found counts as available.
const FOUND_FOR: Duration = Duration::from_mins(5);
/// How long a missing image is not looked up again: short, because it may just be being pushed.
const MISSING_FOR: Duration = Duration::from_secs(15);
/// How long a registry that did not answer is not asked again, so that not every launch waits for it.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);
/// Maximum number of images remembered; beyond that the stale ones are dropped, and then all.
const MAX_REMEMBERED: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Found,
    Missing(String),
    /// The answer is not known.
    Unknown,
}

impl Verdict {
    const fn lasts(&self) -> Duration {
        match self {
            Self::Found => FOUND_FOR,
            Self::Missing(_) => MISSING_FOR,
            Self::Unknown => UNKNOWN_FOR,
        }
    }
}

pub(super) struct Lookups {
    link: Arc<Link>,
    config: Arc<DockerSettings>,
    remembered: Mutex<HashMap<String, (Instant, Verdict)>>,
}

impl Lookups {
    pub(super) fn new(link: Arc<Link>, config: Arc<DockerSettings>) -> Self {
        Self { link, config, remembered: Mutex::default() }
    }

    /// [`EngineError::Rejected`] if the image is certainly unavailable.
    pub(super) async fn check(&self, image: &str) -> Result<(), EngineError> {
        let verdict = if let Some(verdict) = self.remembered(image) {
            verdict
        } else {
            let verdict = self.look(image).await?;
            self.remember(image, verdict.clone());
            verdict
        };
        match verdict {
            Verdict::Found | Verdict::Unknown => Ok(()),
            Verdict::Missing(reason) => Err(EngineError::Rejected(reason)),
        }
    }

    fn remembered(&self, image: &str) -> Option<Verdict> {
        let remembered = self.remembered.lock();
        let (since, verdict) = remembered.get(image)?;
        (since.elapsed() < verdict.lasts()).then(|| verdict.clone())
    }

    fn remember(&self, image: &str, verdict: Verdict) {
        let mut remembered = self.remembered.lock();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.retain(|_, (since, verdict)| since.elapsed() < verdict.lasts());
        }
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(image.to_owned(), (Instant::now(), verdict));
    }

    async fn look(&self, text: &str) -> Result<Verdict, EngineError> {
        let image = of_task(text)?;
        let answer = tokio::time::timeout(LOOKUP_TIMEOUT, self.is_on_machine(&image)).await;
        match answer {
            Ok(Ok(true)) => return Ok(Verdict::Found),
            Ok(Ok(false)) => {}
            Ok(Err(ApiError::Refused { status: 400, message })) => {
                return Ok(Verdict::Missing(format!(
                    "image `{text}` is not a name that Docker understands: {message}"
                )));
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Ok(Verdict::Unknown),
        }
        if self.config.pull_policy == PullPolicy::Never {
            let reason = format!("image `{text}` is not on the machine, and this cluster does not fetch images");
            return Ok(Verdict::Missing(reason));
        }
        let answer = tokio::time::timeout(LOOKUP_TIMEOUT, self.ask_registry(&image)).await;
        Ok(answer.unwrap_or(Verdict::Unknown))
    }

    async fn is_on_machine(&self, image: &ImageReference) -> Result<bool, ApiError> {
        let path = in_path(&image.to_string());
        match self.link.call(async |docker| docker.inspect_image(&path).await).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn ask_registry(&self, image: &ImageReference) -> Verdict {
        let Ok(credentials) = credentials::find(self.config.credentials_file.as_deref(), image).await else {
            return Verdict::Unknown;
        };
        let path = in_path(&image.to_string());
        let answer = self.link.call(async |docker| docker.inspect_registry_image(&path, credentials).await).await;
        match answer {
            Ok(_) => Verdict::Found,
            Err(ApiError::Refused { status, message }) if is_final(status, &message) => {
                let registry = image.registry();
                Verdict::Missing(format!(
                    "image `{image}` was not found: it is not on the machine, and registry {registry} answered: {}",
                    message.replace('\n', " ").trim()
                ))
            }
            Err(ApiError::Refused { .. } | ApiError::Away(_)) => Verdict::Unknown,
        }
    }
}
