//! The contract on the Kubernetes engine, whoever makes the pods. What only this engine promises is in tests/kubernetes.

use std::ops::Deref;
use std::sync::Arc;

use flotilla::engine::kubernetes::{KubernetesEngine, KubernetesSettings, PodMaker};
use flotilla::engine::{Identity, Reports};
use flotilla::model::RunId;
use jiff::Timestamp;

use crate::support::{KUBERNETES_IMAGE, kubernetes_config};
use crate::world::{LONGEST, World, remove_everything};

mod by_release {
    use crate::contract::contract;

    fn world() -> Option<super::KubernetesWorld> {
        super::world(None)
    }

    contract!(world);
}

/// As in newer releases, where the job is as anyone would write it.
mod by_controller {
    use flotilla::engine::kubernetes::PodMaker;

    use crate::contract::contract;

    fn world() -> Option<super::KubernetesWorld> {
        super::world(Some(PodMaker::Controller))
    }

    contract!(world);
}

/// A server of its own on a cluster that it shares.
struct KubernetesWorld(World);

impl Deref for KubernetesWorld {
    type Target = World;

    fn deref(&self) -> &World {
        &self.0
    }
}

impl Drop for KubernetesWorld {
    fn drop(&mut self) {
        remove_everything(&self.engine);
    }
}

fn world(maker: Option<PodMaker>) -> Option<KubernetesWorld> {
    let config = KubernetesSettings {
        kubeconfig: Some(kubernetes_config()?),
        context: Some("flotilla".into()),
        ..KubernetesSettings::default()
    };
    let identity = Identity { installation_id: RunId::generate().to_string(), cluster: "test".into() };
    let reports = Reports::default();
    let engine = KubernetesEngine::with_pod_maker(config, identity, reports.clone(), Timestamp::now, maker);
    let world = World::new(Arc::new(engine.unwrap()), reports, tempfile::tempdir().unwrap());
    let poke_patience = LONGEST;
    Some(KubernetesWorld(World { image: KUBERNETES_IMAGE, measures_short_runs: false, poke_patience, ..world }))
}
