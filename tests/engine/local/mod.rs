//! The local engine, with the real supervisor.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flotilla::engine::local::{LocalConfig, LocalEngine};
use flotilla::engine::{Engine, LaunchSpec, Reports};
use tempfile::TempDir;

use crate::contract::contract;
use crate::world::{World, eventually, remove_everything, written};

mod damage;
mod limits;
mod output;
mod restart;
mod start;
mod stop;

mod contract_holds {
    #[expect(clippy::unnecessary_wraps, reason = "as the contract asks for it")]
    fn world() -> Option<super::LocalWorld> {
        Some(super::world())
    }

    super::contract!(world);
}

/// Ends what a test left running.
pub struct LocalWorld {
    world: World,
    runs_dir: PathBuf,
}

impl Deref for LocalWorld {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Drop for LocalWorld {
    fn drop(&mut self) {
        remove_everything(&self.engine);
    }
}

impl LocalWorld {
    fn folder_of(&self, spec: &LaunchSpec) -> PathBuf {
        self.runs_dir.join(spec.attempt_id.to_string())
    }

    fn work_of(&self, spec: &LaunchSpec) -> PathBuf {
        self.folder_of(spec).join("work")
    }

    /// The number that a task wrote to a file in its working directory.
    async fn number(&self, spec: &LaunchSpec, name: &str) -> i32 {
        written(&self.work_of(spec).join(name)).await.trim().parse().unwrap()
    }

    async fn supervisor_of(&self, spec: &LaunchSpec) -> i32 {
        let path = self.folder_of(spec).join("started.json");
        eventually("the command has started", || path.exists()).await;
        let start: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        start["supervisor_pid"].as_i64().unwrap().try_into().unwrap()
    }

    /// Another server on the same folder, as after a restart.
    fn restarted(&self) -> World {
        let reports = Reports::default();
        let engine = engine(&self.runs_dir, &reports, |_| {});
        World::new(Arc::new(engine), reports, tempfile::tempdir().unwrap())
    }
}

/// Whether a process is there and not a zombie.
fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn world() -> LocalWorld {
    world_in(tempfile::tempdir().unwrap(), |_| {})
}

fn world_in(folder: TempDir, change: impl FnOnce(&mut LocalConfig)) -> LocalWorld {
    let runs_dir = folder.path().join("runs");
    let reports = Reports::default();
    let engine = engine(&runs_dir, &reports, change);
    LocalWorld { world: World::new(Arc::new(engine), reports, folder), runs_dir }
}

fn engine_with(runs_dir: &Path, change: impl FnOnce(&mut LocalConfig)) -> (Arc<dyn Engine>, Reports) {
    let reports = Reports::default();
    (Arc::new(engine(runs_dir, &reports, change)), reports)
}

fn engine(runs_dir: &Path, reports: &Reports, change: impl FnOnce(&mut LocalConfig)) -> LocalEngine {
    let mut config = LocalConfig::new(runs_dir);
    config.supervisor = env!("CARGO_BIN_EXE_flotilla").into();
    change(&mut config);
    LocalEngine::new(config, reports.clone()).unwrap()
}
