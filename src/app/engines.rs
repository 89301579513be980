//! What the server asks an engine on behalf of requests, and which engine it finds without a configuration.

use std::sync::Arc;

use crate::engine::docker::{DockerEngine, DockerSettings};
use crate::engine::settings::EngineSettings;
use crate::engine::{Engine, EngineError, EngineState};
use crate::model::Condition;
use crate::service::{LaunchCheck, Probe};

/// The settings of a Docker Engine that answers in its usual place.
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

/// What the engine refuses for good is the client's fault; what it can't say now is found out when the run starts.
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

/// What the engine tells about itself.
pub(super) fn probe(engine: Arc<dyn Engine>) -> Probe {
    Arc::new(move || {
        let unreachable = match engine.state() {
            EngineState::Reachable => None,
            EngineState::Unreachable { reason, since } => Some((since, reason)),
        };
        Condition { unreachable, identity: engine.known_identity(), capacity: engine.capacity() }
    })
}
