//! The contract on the Docker engine. What only this engine promises is in tests/docker.

use std::ops::Deref;
use std::sync::Arc;

use flotilla::engine::Reports;
use flotilla::engine::docker::{DockerEngine, DockerSettings, Identity};
use flotilla::model::RunId;
use jiff::Timestamp;

use crate::contract::contract;
use crate::support::{DOCKER_IMAGE, docker_address};
use crate::world::{World, remove_everything};

contract!(world);

/// A server of its own on a daemon that it shares.
struct DockerWorld(World);

impl Deref for DockerWorld {
    type Target = World;

    fn deref(&self) -> &World {
        &self.0
    }
}

impl Drop for DockerWorld {
    fn drop(&mut self) {
        remove_everything(&self.engine);
    }
}

fn world() -> Option<DockerWorld> {
    let host = docker_address()?;
    let config = DockerSettings { host: Some(host), network_mode: Some("none".into()), ..DockerSettings::default() };
    let identity = Identity { installation_id: RunId::generate().to_string(), cluster: "test".into() };
    let reports = Reports::default();
    let engine = DockerEngine::new(config, identity, reports.clone(), Timestamp::now);
    let world = World::new(Arc::new(engine), reports, tempfile::tempdir().unwrap());
    Some(DockerWorld(World { image: DOCKER_IMAGE, measures_short_runs: false, ..world }))
}
