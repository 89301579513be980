//! The connection to a cluster's API: opened on first use, reopened when the API comes back, and the only place that
//! distinguishes "the API refused" from "the API is away".

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::facts::Now;
use super::job::PodMaker;
use super::settings::KubernetesSettings;
use super::words::clean;
use crate::engine::EngineState;
pub(super) use crate::engine::container::api_error::{ApiError, with_causes};
use crate::model::EngineIdentity;

/// How long a call may take until its whole response has arrived.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long connecting may take, and the handshake.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        match error {
            // Too many requests, or a fault of a component that the API depends on: the next call may succeed.
            kube::Error::Api(status) if status.code == 429 || status.code >= 500 || status.code == 401 => {
                Self::Away(format!("{} ({})", clean(&status.message), status.code))
            }
            kube::Error::Api(status) => Self::Refused { status: status.code, message: clean(&status.message) },
            other => Self::Away(with_causes(&other)),
        }
    }
}

pub(super) struct Link {
    config: KubernetesSettings,
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    began: Instant,
    known: Mutex<Known>,
}

struct Known {
    connected: Option<Connected>,
    /// The identity of the answering cluster; forgotten as soon as it stops answering.
    identity: Option<EngineIdentity>,
    state: EngineState,
    /// What the server may not watch, and the API's message: without it the server can't observe runs.
    lacking: BTreeMap<&'static str, (String, Timestamp)>,
}

/// Whether nodes write `Failed` and `ContainerStatusUnknown` for a pod of which nothing ran, before they release it.
const fn has_last_status(major: u32, minor: u32) -> bool {
    major > 1 || minor >= 27
}

/// A cluster that answered.
#[derive(Clone)]
pub(super) struct Connected {
    pub client: Client,
    pub pod_maker: PodMaker,
    /// Its nodes write how a deleted pod ended before they release it.
    pub has_last_status: bool,
    pub release: String,
}

impl Link {
    pub(super) fn new(config: KubernetesSettings, now: Box<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        let state = EngineState::Unreachable { reason: "it was not asked yet".to_owned(), since: now() };
        Self {
            config,
            now,
            began: Instant::now(),
            known: Mutex::new(Known { connected: None, identity: None, state, lacking: BTreeMap::new() }),
        }
    }

    pub(super) fn now(&self) -> Now {
        Now { wall: (self.now)(), uptime: self.began.elapsed() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }

    /// A cluster that answers but does not let the server observe its runs counts as one that does not answer.
    pub(super) fn state(&self) -> EngineState {
        let known = self.known();
        match (&known.state, known.lacking.values().next()) {
            (EngineState::Reachable, Some((words, since))) => {
                let reason = format!("the server's account lacks a right in the cluster: {words}");
                EngineState::Unreachable { reason, since: *since }
            }
            (state, _) => state.clone(),
        }
    }

    /// Records whether the server may watch something.
    pub(super) fn set_right(&self, what: &'static str, refusal: Option<String>) {
        let now = (self.now)();
        let mut known = self.known();
        match refusal {
            Some(words) => {
                let since = known.lacking.get(what).map_or(now, |(_, since)| *since);
                known.lacking.insert(what, (words, since));
            }
            None => {
                known.lacking.remove(what);
            }
        }
    }

    /// The cluster's client and release.
    pub(super) async fn connected(&self) -> Result<Connected, ApiError> {
        let known = self.known().connected.clone();
        if let Some(connected) = known {
            return Ok(connected);
        }
        let answer = tokio::time::timeout(GREETING_TIMEOUT, self.connect()).await;
        match answer.unwrap_or_else(|_| Err(ApiError::Away("no answer to a greeting".to_owned()))) {
            Ok(connected) => {
                tracing::info!(release = connected.release, pods_made_by = ?connected.pod_maker, "a Kubernetes cluster answers");
                self.known().connected = Some(connected.clone());
                self.found();
                Ok(connected)
            }
            Err(error) => Err(self.missed(error)),
        }
    }

    async fn connect(&self) -> Result<Connected, ApiError> {
        let mut config = self.client_config().await.map_err(ApiError::Away)?;
        config.connect_timeout = Some(GREETING_TIMEOUT);
        // Watches and logs are silent while nothing happens.
        config.read_timeout = None;
        let client = Client::try_from(config)?;
        let version = client.apiserver_version().await?;
        // Some providers report `20+`.
        let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0);
        let (major, minor) = (number(&version.major), number(&version.minor));
        let pod_maker = PodMaker::of_release(major, minor);
        Ok(Connected {
            client,
            pod_maker,
            has_last_status: has_last_status(major, minor),
            release: version.git_version,
        })
    }

    /// Read again for each connection, because keys and tokens change.
    async fn client_config(&self) -> Result<Config, String> {
        let options = KubeConfigOptions { context: self.config.context.clone(), ..KubeConfigOptions::default() };
        match &self.config.kubeconfig {
            Some(path) => {
                let kubeconfig = Kubeconfig::read_from(path).map_err(|error| with_causes(&error))?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| with_causes(&error))
            }
            None if self.config.context.is_none() && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => {
                Config::incluster().map_err(|error| with_causes(&error))
            }
            None => Config::from_kubeconfig(&options).await.map_err(|error| with_causes(&error)),
        }
    }

    /// Makes one call, and records whether the API answered.
    pub(super) async fn call<T>(
        &self,
        call: impl AsyncFnOnce(Client) -> Result<T, kube::Error>,
    ) -> Result<T, ApiError> {
        let client = self.connected().await?.client;
        let answer = tokio::time::timeout(CALL_TIMEOUT, call(client)).await;
        let result = match answer {
            Ok(result) => result.map_err(ApiError::from),
            Err(_) => Err(ApiError::Away(format!("no answer within {} s", CALL_TIMEOUT.as_secs()))),
        };
        match result {
            Err(error) => Err(self.missed(error)),
            Ok(value) => {
                self.found();
                Ok(value)
            }
        }
    }

    pub(super) fn known_identity(&self) -> Option<EngineIdentity> {
        self.known().identity.clone()
    }

    pub(super) fn set_identity(&self, identity: EngineIdentity) {
        self.known().identity = Some(identity);
    }

    pub(super) fn found(&self) {
        self.known().state = EngineState::Reachable;
    }

    /// Records an error: a call without an answer makes the cluster unreachable and the next call reconnect.
    pub(super) fn missed(&self, error: ApiError) -> ApiError {
        let ApiError::Away(reason) = error else {
            self.found();
            return error;
        };
        let prefix = "the Kubernetes API does not answer: ";
        let reason = if reason.starts_with(prefix) { reason } else { format!("{prefix}{reason}") };
        let mut known = self.known();
        known.connected = None;
        known.identity = None;
        known.state.lose(reason.clone(), (self.now)());
        ApiError::Away(reason)
    }
}
