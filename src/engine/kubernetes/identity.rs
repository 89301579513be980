//! Which cluster answers: the uid of its namespace `kube-system`, which is created and deleted with the cluster.
//! There is no other standard identity of a cluster; an address may come to mean another one.

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

use super::Inner;
use super::link::ApiError;
use crate::engine::EngineError;
use crate::model::{EngineId, EngineIdentity};

const NAMESPACE: &str = "kube-system";

impl Inner {
    /// Reading a namespace requires a right that `deploy/kubernetes/base/roles.yaml` grants. Without it, the cluster
    /// is used all the same, and its replacement by another one goes unnoticed.
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
