//! Engine queries on behalf of requests, and the engine detected without a configuration.

use std::sync::Arc;

use crate::engine::docker::{DockerEngine, DockerSettings};
use crate::engine::settings::EngineSettings;
use crate::engine::{Engine, EngineError, EngineState};
use crate::model::Condition;
use crate::service::{LaunchCheck, Probe};

/// The settings of a Docker Engine that answers at its usual address.
pub(super) async fn find_docker() -> Option<EngineSettings> {
    let settings = DockerSettings::default();
    match DockerEngine::probe(&settings).await {
        Ok(found) => {
            tracing::info!(
                host = found.host,
                version = found.version,
                machine = found.machine_name,
                "found a Docker Engine"
            );
            Some(EngineSettings::Docker(Box::new(settings)))
        }
        Err(error) => {
            tracing::debug!(reason = %error, "no Docker Engine answers in the usual place");
            None
        }
    }
}

/// A permanent refusal by the engine is the client's error; anything it can't decide now is determined when the run
/// starts.
pub(super) fn launch_check(engine: Arc<dyn Engine>) -> LaunchCheck {
    Arc::new(move |task| {
        let engine = Arc::clone(&engine);
        Box::pin(async move {
            match engine.check(&task).await {
                Err(EngineError::Rejected(reason)) => Err(reason),
                Ok(()) | Err(EngineError::Unavailable(_) | EngineError::NotStarted { .. } | EngineError::Gone(_)) => {
                    Ok(())
                }
            }
        })
    })
}

/// What the engine reports about itself.
pub(super) fn probe(engine: Arc<dyn Engine>) -> Probe {
    Arc::new(move || {
        let unreachable = match engine.state() {
            EngineState::Reachable => None,
            EngineState::Unreachable { reason, since } => Some((since, reason)),
        };
        Condition { unreachable, identity: engine.known_identity(), capacity: engine.capacity() }
    })
}
