//! The real binary: a server of it with its own data, and commands that speak to that server.

#![allow(dead_code, clippy::print_stderr, reason = "each test binary that includes this uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything of these tests may take before it counts as stuck.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A command of the binary, in `folder`, without the surroundings' settings.
pub fn flotilla(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flotilla"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FLOTILLA_") {
            command.env_remove(name);
        }
    }
    // A Docker Engine of the machine's is not what is meant where nothing is said.
    command.current_dir(folder).env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    command
}

/// How a server is started.
#[derive(Default)]
pub struct Setup {
    /// Its `flotilla.toml`.
    pub config: String,
    /// A program and arguments that execute what follows them, such as `nice -n5`.
    pub wrapper: Vec<String>,
    /// Where its data really is, instead of in its folder.
    pub data_dir: Option<PathBuf>,
}

/// A server that is killed when it is dropped.
pub struct Server {
    folder: TempDir,
    wrapper: Vec<String>,
    child: Child,
    pub url: String,
    said: Lines,
}

/// What a process wrote so far.
type Lines = Arc<Mutex<Vec<String>>>;

impl Server {
    pub fn start() -> Self {
        Self::with_config("")
    }

    /// A server whose `flotilla.toml` is this.
    pub fn with_config(config: &str) -> Self {
        Self::with(Setup { config: config.to_owned(), ..Setup::default() })
    }

    pub fn with(setup: Setup) -> Self {
        let Setup { config, wrapper, data_dir } = setup;
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("flotilla.toml"), config).unwrap();
        if let Some(data_dir) = data_dir {
            std::os::unix::fs::symlink(data_dir, folder.path().join("data")).unwrap();
        }
        let said = Lines::default();
        let (child, url) = start(folder.path(), &wrapper, &free_address(), &said);
        Self { folder, wrapper, child, url, said }
    }

    /// Stops it in order and starts it again, at the same address.
    pub fn restart(&mut self) {
        assert!(self.stop().success());
        self.start_again();
    }

    /// Kills it as the kernel would, and starts it again at the same address.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Stops it in order; it can be started again.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_until_ended()
    }

    pub fn signal(&self, signal: Signal) {
        interrupt(&self.child, signal);
    }

    pub fn wait_until_ended(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// Kills it as the kernel would; it can be started again.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts one that has ended, at the same address.
    pub fn start_again(&mut self) {
        let address = self.url.trim_start_matches("http://").to_owned();
        (self.child, self.url) = start(self.folder.path(), &self.wrapper, &address, &self.said);
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The server's own log, since its first start.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    pub fn wait_until_said(&self, text: &str) {
        until(&format!("{text:?} is said"), || self.said().contains(text));
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder().join("data")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = flotilla(self.folder());
        command.env("FLOTILLA_SERVER", &self.url).args(arguments);
        command
    }

    pub fn output(&self, arguments: &[&str]) -> Said {
        Said::of(&mut self.command(arguments))
    }

    /// What a command that must succeed prints.
    pub fn text(&self, arguments: &[&str]) -> String {
        let said = self.output(arguments);
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
        said.out
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.text(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error} in {text}"))
    }

    /// Defines a task that is this shell script.
    pub fn define(&self, alias: &str, script: &str) {
        self.define_with_image(alias, "none", script);
    }

    /// The same, in a container.
    pub fn define_with_image(&self, alias: &str, image: &str, script: &str) {
        let definition = serde_json::json!({
            "alias": alias, "group_name": "tests", "image": image, "command": script,
        });
        let file = self.folder().join(format!("{alias}.json"));
        fs::write(&file, definition.to_string()).unwrap();
        self.text(&["define", "-f", file.to_str().unwrap()]);
    }

    /// Launches it and returns the run's id.
    pub fn launch(&self, alias: &str) -> String {
        self.text(&["run", alias, "-q"]).trim().to_owned()
    }

    /// The run, once it is in this status.
    pub fn wait_for(&self, run_id: &str, status: &str) -> Value {
        let begun = Instant::now();
        loop {
            let run = self.json(&["show", run_id]);
            if run["status"] == status {
                return run;
            }
            assert!(begun.elapsed() < PATIENCE, "not {status}: {run}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that a restarted server gets again: below the ports that the system gives to connections, so that no
/// client takes it in between, not even one that asks for the server while it is away and so meets itself.
pub fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = 12_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let address = format!("127.0.0.1:{port}");
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

fn start(folder: &Path, wrapper: &[String], address: &str, said: &Lines) -> (Child, String) {
    let mut command = flotilla(folder);
    if let [program, arguments @ ..] = wrapper {
        let wrapped = command;
        command = Command::new(program);
        command.args(arguments).arg(wrapped.get_program()).current_dir(folder);
        for (name, value) in wrapped.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    }
    command.args(["serve", "--data-dir", "data", "--listen", address]).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let url = loop {
        let line = lines.next().unwrap_or_else(|| panic!("the server has gone: {:?}", said.lock().unwrap()));
        said.lock().unwrap().push(line.clone());
        if let Some((_, rest)) = line.split_once("serving at ") {
            break rest.split_whitespace().next().unwrap().to_owned();
        }
    };
    // Read on, so that the server never waits for us.
    let said = Arc::clone(said);
    std::thread::spawn(move || {
        lines.for_each(|line| {
            eprintln!("server: {line}");
            said.lock().unwrap().push(line);
        });
    });
    (child, url)
}

/// Waits until something is true.
pub fn until(what: &str, is_true: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_true() {
        assert!(begun.elapsed() < PATIENCE, "it never comes to pass that {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(command: &mut Command) -> Self {
        Self::from(command.stdin(Stdio::null()).output().unwrap())
    }

    pub fn with_input(command: &mut Command, input: &[u8]) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        Self::from(child.wait_with_output().unwrap())
    }

    /// The JSON objects, one a line.
    pub fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or_else(|| panic!("ended by a signal: {output:?}")),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A command that is still going on.
pub struct Going {
    child: Child,
    out: BufReader<ChildStdout>,
    err: Receiver<String>,
}

impl Going {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let (send, err) = channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            send.send(text)
        });
        Self { child, out, err }
    }

    pub fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    pub fn signal(&self, signal: Signal) {
        interrupt(&self.child, signal);
    }

    /// How it ended, and what it printed beyond the lines that were read.
    pub fn end(mut self) -> Said {
        let mut out = self.out;
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).map(|_| text)
        });
        let code = wait(&mut self.child).code().expect("it exits by itself");
        let out = reading.join().unwrap().unwrap();
        Said { code, out, err: self.err.recv_timeout(PATIENCE).unwrap() }
    }
}

fn interrupt(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

fn wait(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
