//! The connection to the daemon: made on first use, remade when the daemon comes back, and the one place that
//! distinguishes "Docker refused" from "Docker is away".

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bollard::{API_DEFAULT_VERSION, Docker};
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};

use super::capacity::{Clock, Machine};
use super::settings::DockerSettings;
use crate::engine::EngineState;
pub(super) use crate::engine::container::api_error::ApiError;
use crate::engine::container::api_error::with_causes;
use crate::model::EngineIdentity;

/// How long a call may take until its answer begins. A daemon under load takes seconds to start a container.
const CALL_TIMEOUT_SECS: u64 = 60;
/// How long a call may take until its answer is complete.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// How long a running daemon needs at most to report its version.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

impl From<bollard::errors::Error> for ApiError {
    fn from(error: bollard::errors::Error) -> Self {
        use bollard::errors::Error;
        match error {
            // Whatever answers here may answer everything that way, so it says nothing about the container.
            Error::DockerResponseServerError { status_code: status_code @ 400.., message }
                if message.trim().is_empty() =>
            {
                Self::Away(format!("what answers there says {status_code} and not why, which no Docker Engine does"))
            }
            Error::DockerResponseServerError { status_code, message } => {
                Self::Refused { status: status_code, message: message.trim().to_owned() }
            }
            // An error in the middle of a stream that began well, such as that of a pull.
            Error::DockerStreamError { error } => Self::Refused { status: 500, message: error.trim().to_owned() },
            Error::SocketNotFoundError(path) => Self::Away(format!("there is no socket {path}")),
            Error::RequestTimeoutError => Self::Away(format!("no answer within {CALL_TIMEOUT_SECS} s")),
            other => Self::Away(without_library_words(&with_causes(&other))),
        }
    }
}

/// bollard's messages start with the part of the library that had the error.
fn without_library_words(text: &str) -> String {
    let known = ["Error in the hyper legacy client: ", "Hyper error: ", "client error (Connect): "];
    known.iter().fold(text, |text, words| text.strip_prefix(words).unwrap_or(text)).to_owned()
}

pub(super) struct Link {
    host: String,
    tls_dir: Option<PathBuf>,
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    known: Mutex<Known>,
}

struct Known {
    docker: Option<Docker>,
    machine: Option<Machine>,
    /// Of the daemon that answers; cleared as soon as it does not.
    identity: Option<EngineIdentity>,
    state: EngineState,
    /// Whether it was ever reached: before that, being unreachable is not an outage of the daemon.
    has_answered: bool,
    connection: Connection,
}

/// A period in which the daemon answered: counts how often it came back after being away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Connection(u64);

impl Link {
    pub(super) fn new(config: &DockerSettings, now: Box<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        let state = EngineState::Unreachable { reason: "it was not asked yet".to_owned(), since: now() };
        Self {
            host: config.host_or_usual(),
            tls_dir: config.tls_dir.clone(),
            now,
            known: Mutex::new(Known {
                docker: None,
                machine: None,
                identity: None,
                state,
                has_answered: false,
                connection: Connection::default(),
            }),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.now)()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }

    pub(super) fn state(&self) -> EngineState {
        self.known().state.clone()
    }

    pub(super) fn connection(&self) -> Connection {
        self.known().connection
    }

    /// The clock of the daemon's machine.
    pub(super) fn clock(&self) -> Option<Clock> {
        self.known().machine.as_ref()?.clock
    }

    /// What the daemon last reported about its machine.
    pub(super) fn machine(&self) -> Option<Machine> {
        self.known().machine.clone()
    }

    pub(super) fn known_identity(&self) -> Option<EngineIdentity> {
        self.known().identity.clone()
    }

    /// The identity of the daemon that answers now.
    pub(super) async fn identity(&self) -> Result<EngineIdentity, ApiError> {
        Ok(identity_of(&self.refresh_machine().await?))
    }

    /// The daemon, with an API version that it supports.
    pub(super) async fn docker(&self) -> Result<Docker, ApiError> {
        let connected = self.known().docker.clone();
        if let Some(docker) = connected {
            return Ok(docker);
        }
        let greeting = async { Ok::<_, ApiError>(self.connect()?.negotiate_version().await?) };
        let answer = tokio::time::timeout(GREETING_TIMEOUT, greeting).await;
        let greeted = answer.unwrap_or_else(|_| Err(ApiError::Away("no answer to a greeting".to_owned())));
        match greeted {
            Ok(docker) => {
                self.known().docker = Some(docker.clone());
                self.found();
                Ok(docker)
            }
            Err(error) => Err(self.missed(error)),
        }
    }

    /// Makes one call, and records whether the daemon answered.
    pub(super) async fn call<T, E: Into<ApiError>>(
        &self,
        call: impl AsyncFnOnce(Docker) -> Result<T, E>,
    ) -> Result<T, ApiError> {
        self.call_within(ANSWER_TIMEOUT, call).await
    }

    /// The same with its own timeout for the complete answer.
    pub(super) async fn call_within<T, E: Into<ApiError>>(
        &self,
        limit: Duration,
        call: impl AsyncFnOnce(Docker) -> Result<T, E>,
    ) -> Result<T, ApiError> {
        let docker = self.docker().await?;
        let result = match tokio::time::timeout(limit, call(docker)).await {
            Ok(result) => result.map_err(|error| self.missed(error.into())),
            Err(_) => {
                let reason = format!("its answer did not end within {} s", limit.as_secs());
                Err(self.missed(ApiError::Away(reason)))
            }
        };
        if !matches!(result, Err(ApiError::Away(_))) {
            self.found();
        }
        result
    }

    /// Queries the machine's size and features, which may change when the daemon is restarted.
    pub(super) async fn refresh_machine(&self) -> Result<Machine, ApiError> {
        let info = self.call(async |docker| docker.info().await).await?;
        let machine = Machine::read(&info, Instant::now());
        let mut known = self.known();
        known.identity = Some(identity_of(&machine));
        known.machine = Some(machine.clone());
        drop(known);
        Ok(machine)
    }

    fn found(&self) {
        let mut known = self.known();
        if let EngineState::Unreachable { .. } = known.state {
            if known.has_answered {
                known.connection.0 += 1;
            }
            known.has_answered = true;
            known.state = EngineState::Reachable;
        }
    }

    /// Records an error: one without an answer marks the daemon as unreachable and makes the next call reconnect,
    /// because the daemon that comes back may be another version.
    pub(super) fn missed(&self, error: ApiError) -> ApiError {
        let ApiError::Away(reason) = error else { return error };
        let reason = format!("the Docker daemon at {} does not answer: {reason}", self.host);
        let mut known = self.known();
        known.docker = None;
        known.identity = None;
        known.state.lose(reason.clone(), self.now());
        ApiError::Away(reason)
    }

    fn connect(&self) -> Result<Docker, bollard::errors::Error> {
        let docker = match (&self.tls_dir, self.host.strip_prefix("unix://")) {
            (_, Some(path)) => Docker::connect_with_unix(path, CALL_TIMEOUT_SECS, API_DEFAULT_VERSION)?,
            (Some(folder), None) => connect_with_tls(&self.host, folder)?,
            (None, None) => Docker::connect_with_http(&self.host, CALL_TIMEOUT_SECS, API_DEFAULT_VERSION)?,
        };
        // bollard encodes credentials with an alphabet that Docker does not read (RFC 4648, section 4 instead of 5),
        // so that some passwords would silently be lost.
        Ok(docker.with_request_modifier(|mut request| {
            if let Some(value) = request.headers_mut().get_mut("x-registry-auth") {
                let fixed = value.to_str().map(|text| text.replace('+', "-").replace('/', "_"));
                if let Some(fixed) = fixed.ok().and_then(|text| text.parse().ok()) {
                    *value = fixed;
                }
            }
            request
        }))
    }
}

fn identity_of(machine: &Machine) -> EngineIdentity {
    machine.identity.clone().map_or(EngineIdentity::NotTold, EngineIdentity::Known)
}

fn connect_with_tls(host: &str, folder: &Path) -> Result<Docker, bollard::errors::Error> {
    let [key, cert, ca] = ["key.pem", "cert.pem", "ca.pem"].map(|name| folder.join(name));
    Docker::connect_with_ssl(host, &key, &cert, &ca, CALL_TIMEOUT_SECS, API_DEFAULT_VERSION)
}
