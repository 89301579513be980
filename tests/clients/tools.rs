//! The generators and the property-based client, which `scripts/test` installs, and how they are run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support;

/// Whatever takes longer is stuck, on however slow a machine.
pub const PATIENCE_SECS: u32 = 600;

pub struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// `None` where they are not installed, which is said at the end of the test run.
    pub fn find() -> Option<Self> {
        support::clients_folder().map(|folder| Self { folder })
    }

    /// A program of the Python environment, with those that it calls by their names.
    pub fn python(&self, program: &str) -> Command {
        self.patient_python(program, PATIENCE_SECS)
    }

    /// The same, which may take longer than usual.
    pub fn patient_python(&self, program: &str, patience_secs: u32) -> Command {
        let programs = self.folder.join("python/bin");
        let mut command = within(patience_secs, programs.join(program));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(programs).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(all).unwrap()).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// A program of the npm packages.
    pub fn node(&self, program: &str) -> Command {
        bounded(self.node_modules().join(".bin").join(program))
    }

    pub fn node_modules(&self) -> PathBuf {
        self.folder.join("typescript/node_modules")
    }
}

/// A command that is ended, with what it has started, when it takes too long.
pub fn bounded(program: impl AsRef<OsStr>) -> Command {
    within(PATIENCE_SECS, program)
}

fn within(patience_secs: u32, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.arg("--kill-after=5").arg(patience_secs.to_string()).arg(program);
    command
}

/// Where the files stand that are given to the tools.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(path)
}

/// Runs it to its end, which has to be a good one, and gives what it printed.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (said(&output.stdout), said(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out
}
