//! What a server uses that has nothing to do: after its start, after many runs, and after it gave out a large log.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a program for people to read")]

mod support;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::time::TimeValLike;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use support::{LOCAL, Server, folder, number, tell_load, wait_until};

/// How long the server is watched doing nothing.
const IDLE: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let runs = number(0, 500)?;
    let log_mb = number(1, 1024)?;
    tell_load()?;
    let folder = folder()?;
    let server = Server::start(folder.path(), LOCAL, &[])?;
    let pid = server.pid();
    println!(
        "\n{:<34} {:>8} {:>8} {:>8} {:>8} {:>9} {:>10}",
        "", "RSS MB", "own MB", "peak MB", "threads", "CPU ms", "wake-ups"
    );
    std::thread::sleep(Duration::from_secs(1));
    tell("started", pid, None)?;
    tell_idle("idle", pid)?;

    let mut connection = server.connect()?;
    let trivial = connection.define("trivial", "echo hello")?;
    for _ in 0..runs {
        connection.launch(&trivial)?;
    }
    let all_stopped = format!("/api/v1/history?status=STOPPED&limit=0&definition_id={trivial}");
    wait_until(|| Ok(connection.get(&all_stopped)?["total"] == runs))?;
    tell(&format!("after {runs} runs"), pid, None)?;
    tell_idle("idle again", pid)?;

    // The server closes connections that are idle, so each step has its own.
    let mut connection = server.connect()?;
    let talks = connection.define("talks", &format!("head -c {log_mb}M /dev/zero | tr '\\0' x"))?;
    let run_id = connection.launch(&talks)?;
    server.connect()?.follow(&run_id)?;
    tell(&format!("after {log_mb} MB of log were followed"), pid, None)?;
    let begun = std::time::Instant::now();
    let length = server.connect()?.drain(&format!("/api/v1/{run_id}/logs?raw_text=true"))?;
    let took = begun.elapsed();
    tell("and downloaded", pid, None)?;
    tell_idle("idle at last", pid)?;
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let rate = length as f64 / took.as_secs_f64() / 1e6;
    println!("the download ran at {rate:.0} MB/s");
    server.connect()?.get(&format!("/api/v1/history?limit=1000&definition_id={trivial}"))?;
    tell("after a page of 500 runs or more", pid, None)
}

/// What doing nothing costs.
fn tell_idle(name: &str, pid: u32) -> Result<()> {
    let before = Usage::of(pid)?;
    std::thread::sleep(IDLE);
    tell(&format!("{name}, {} s", IDLE.as_secs()), pid, Some(&before))
}

fn tell(name: &str, pid: u32, since: Option<&Usage>) -> Result<()> {
    let now = Usage::of(pid)?;
    let mb = |kb: u64| format!("{}.{}", kb / 1024, kb % 1024 * 10 / 1024);
    let [cpu, wakes] = match since {
        Some(before) => [(now.cpu_ms - before.cpu_ms).to_string(), now.wakes.saturating_sub(before.wakes).to_string()],
        None => [String::new(), String::new()],
    };
    let (rss, own, peak) = (mb(now.rss_kb), mb(now.own_kb), mb(now.peak_kb));
    println!("{name:<34} {rss:>8} {own:>8} {peak:>8} {:>8} {cpu:>9} {wakes:>10}", now.threads);
    Ok(())
}

struct Usage {
    rss_kb: u64,
    /// What is the process's alone: without the pages of its binary and of the libraries.
    own_kb: u64,
    peak_kb: u64,
    threads: u64,
    cpu_ms: i64,
    /// How often those of its threads that are there now went on after they had waited.
    wakes: u64,
}

impl Usage {
    fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let mut wakes = 0;
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            wakes += number_of(&fs::read_to_string(thread?.path().join("status"))?, "voluntary_ctxt_switches")?;
        }
        let cpu = clock_gettime(clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))?)?;
        Ok(Self {
            rss_kb: number_of(&status, "VmRSS")?,
            own_kb: number_of(&rollup, "Private_Dirty")?,
            peak_kb: number_of(&status, "VmHWM")?,
            threads: number_of(&status, "Threads")?,
            cpu_ms: cpu.num_milliseconds(),
            wakes,
        })
    }
}

fn number_of(text: &str, key: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.split_whitespace().next()).with_context(|| format!("no {key}"))?;
    Ok(number.parse()?)
}
