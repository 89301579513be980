//! Which cluster answers: the uid of its namespace `kube-system`, which is made with the cluster and goes with it. There
//! is no other agreed-on name of a cluster; an address may come to mean another one.

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

use super::Inner;
use super::link::ApiError;
use crate::engine::EngineError;
use crate::model::{EngineId, EngineIdentity};

const NAMESPACE: &str = "kube-system";

impl Inner {
    /// Reading a namespace takes a right that `deploy/kubernetes/base/roles.yaml` gives. Where it is missing, the cluster
    /// is used all the same, and one that takes its place is not noticed.
    pub(super) async fn identity(&self) -> Result<EngineIdentity, EngineError> {
        let read = async |client| Api::<Namespace>::all(client).get(NAMESPACE).await;
        let identity = match self.link.call(read).await {
            Ok(namespace) => {
                let uid = namespace.metadata.uid.map(EngineId::from_text);
                uid.map_or(EngineIdentity::NotTold, EngineIdentity::Known)
            }
            Err(ApiError::Refused { message, .. }) => {
                if self.link.known_identity() != Some(EngineIdentity::NotTold) {
                    tracing::warn!(
                        cluster = self.identity.cluster,
                        reason = message,
                        "the namespace kube-system can't be read, so a cluster that takes the place of this one would not be noticed"
                    );
                }
                EngineIdentity::NotTold
            }
            Err(ApiError::Away(reason)) => return Err(EngineError::Unavailable(reason)),
        };
        self.link.set_identity(identity.clone());
        Ok(identity)
    }
}
