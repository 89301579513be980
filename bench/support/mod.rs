//! What the benchmarks share: a server of the real binary, a plain connection to it, and figures.
#![allow(dead_code, reason = "each benchmark uses a part of it")]
#![allow(clippy::print_stdout, reason = "the figures are its result")]

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything of a benchmark may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_mins(2);

/// The configuration of a server whose runs are processes of this machine.
pub const LOCAL: &str = "[clusters.default]\nengine = \"local\"\n";

/// A folder of its own on the disk of the build's output, where an fsync costs what it costs a server.
pub fn folder() -> Result<TempDir> {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).context("cannot make a folder")
}

/// A server of the benchmarked binary, killed when it is dropped.
pub struct Server {
    child: Child,
    address: String,
    folder: PathBuf,
}

impl Server {
    /// `config` is its flotilla.toml; its data are in `folder`, which outlives it.
    pub fn start(folder: &Path, config: &str, arguments: &[&str]) -> Result<Self> {
        fs::write(folder.join("flotilla.toml"), config)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_flotilla"));
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FLOTILLA_")) {
            command.env_remove(name);
        }
        command.current_dir(folder).args(["serve", "--data-dir", "data", "--listen", "127.0.0.1:0"]).args(arguments);
        let mut child =
            command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().context("cannot start the server")?;
        let mut lines = BufReader::new(child.stderr.take().context("it has no stderr")?).lines();
        let mut said = Vec::new();
        let address = loop {
            let Some(line) = lines.next().transpose()? else { bail!("the server ended: {said:?}") };
            if let Some((_, rest)) = line.split_once("serving at http://") {
                break rest.split_whitespace().next().unwrap_or_default().to_owned();
            }
            said.push(line);
        };
        // Read on, so that the server never waits for us.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(Self { child, address, folder: folder.to_owned() })
    }

    pub fn connect(&self) -> Result<Connection> {
        Connection::open(&self.address)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder with the database, the logs and the local runs.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Ends it in order.
    pub fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        ensure!(self.child.wait()?.success(), "the server failed");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection, kept open, with as little between us and the server as can be.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// The body of the answer, which must be a 200.
    pub fn text(&mut self, method: &str, path: &str, body: &str) -> Result<Vec<u8>> {
        let length = self.send(method, path, "keep-alive", body)?;
        let mut bytes = vec![0; length.context("the answer has no length")?];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    pub fn json(&mut self, method: &str, path: &str, body: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.text(method, path, body)?)?)
    }

    pub fn get(&mut self, path: &str) -> Result<Value> {
        self.json("GET", path, "")
    }

    /// Defines a task and returns its id.
    pub fn define(&mut self, alias: &str, command: &str) -> Result<String> {
        let body = json!({"alias": alias, "group_name": "bench", "image": "none", "command": command});
        word(&self.json("POST", "/api/v1/task", &body.to_string())?, "definition_id")
    }

    /// Launches a task and returns the run's id.
    pub fn launch(&mut self, definition_id: &str) -> Result<String> {
        word(&self.json("PUT", &format!("/api/v4/task/{definition_id}/execute"), "{}")?, "run_id")
    }

    /// Follows a run's log to its end, which is also the run's.
    pub fn follow(mut self, run_id: &str) -> Result<()> {
        self.send("GET", &format!("/api/v1/{run_id}/logs/stream"), "close", "")?;
        let mut line = String::new();
        while !line.starts_with("event: end") {
            line.clear();
            ensure!(self.stream.read_line(&mut line)? > 0, "the stream ended before the run");
        }
        Ok(())
    }

    /// Reads an answer of any length and drops it; how long it was.
    pub fn drain(mut self, path: &str) -> Result<u64> {
        self.send("GET", path, "close", "")?;
        Ok(std::io::copy(&mut self.stream, &mut std::io::sink())?)
    }

    /// The length that the answer says its body has.
    fn send(&mut self, method: &str, path: &str, connection: &str, body: &str) -> Result<Option<usize>> {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: bench\r\nconnection: {connection}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            ensure!(self.stream.read_line(&mut head)? > 0, "the server closed the connection");
        }
        ensure!(head.starts_with("HTTP/1.1 200"), "{method} {path}: {head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        Ok(length.map(str::parse).transpose()?)
    }
}

/// A field of a JSON object that is a text.
pub fn word(object: &Value, field: &str) -> Result<String> {
    object[field].as_str().map(str::to_owned).with_context(|| format!("no {field} in {object}"))
}

/// Tries until it succeeds.
pub fn wait_until(mut is_done: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !is_done()? {
        ensure!(begun.elapsed() < PATIENCE, "it takes too long");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Microseconds since 1970.
pub fn now_micros() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// What was measured of one thing, in microseconds.
#[derive(Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn add(&mut self, micros: f64) {
        self.0.push(micros);
    }

    pub fn add_time(&mut self, time: Duration) {
        self.add(time.as_secs_f64() * 1e6);
    }

    pub fn extend(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    /// Such as 0.5 for the median.
    pub fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "small"
        )]
        let i = (part * sorted.len().saturating_sub(1) as f64).round() as usize;
        sorted.get(i).copied().unwrap_or(f64::NAN)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// A line of the report: the thing, its median and 90th percentile, and how often the raw operation fits in.
pub fn report(name: &str, samples: &Samples, raw: &Samples) {
    let (median, high) = (samples.median(), samples.quantile(0.9));
    println!("{name:<58} {:>9.2} ms {:>9.2} ms {:>8.2}x", median / 1e3, high / 1e3, median / raw.median());
}

pub fn heading(title: &str) {
    println!("\n{title:<58} {:>12} {:>12} {:>9}", "median", "p90", "of raw");
}

/// How busy the machine is beside us: figures taken under load say little.
pub fn tell_load() -> Result<()> {
    let load = fs::read_to_string("/proc/loadavg")?;
    let cores = std::thread::available_parallelism()?;
    println!("load average {} on {cores} cores", load.split_whitespace().take(3).collect::<Vec<_>>().join(" "));
    Ok(())
}

/// The `i`th argument that is a number: `cargo bench --bench history -- 10000 1000000`.
pub fn number(i: usize, default: u32) -> Result<u32> {
    // Cargo adds `--bench`.
    match env::args().skip(1).filter(|argument| !argument.starts_with("--")).nth(i) {
        Some(text) => text.parse().with_context(|| format!("{text:?} is no number")),
        None => Ok(default),
    }
}
