//! The local engine, with the real supervisor.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flotilla::engine::Pokes;
use flotilla::engine::local::{LocalConfig, LocalEngine};
use nix::libc::O_NONBLOCK;
use tempfile::TempDir;

use crate::contract::contract;
use crate::world::World;

mod contract_holds {
    super::contract!(super::world);
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
        for entry in fs::read_dir(&self.runs_dir).into_iter().flatten().flatten() {
            let control = OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(entry.path().join("control"));
            if let Ok(mut control) = control {
                let _ = control.write_all(b"stop 0\n");
            }
        }
    }
}

fn world() -> LocalWorld {
    world_in(tempfile::tempdir().unwrap(), |_| {})
}

fn world_in(folder: TempDir, change: impl FnOnce(&mut LocalConfig)) -> LocalWorld {
    let runs_dir = folder.path().join("runs");
    let pokes = Pokes::default();
    let engine = engine(&runs_dir, &pokes, change);
    LocalWorld { world: World::new(Arc::new(engine), pokes, folder), runs_dir }
}

fn engine(runs_dir: &Path, pokes: &Pokes, change: impl FnOnce(&mut LocalConfig)) -> LocalEngine {
    let mut config = LocalConfig::new(runs_dir);
    config.supervisor = env!("CARGO_BIN_EXE_flotilla").into();
    change(&mut config);
    LocalEngine::new(config, pokes.clone()).unwrap()
}
