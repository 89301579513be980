//! A local run on an idle server: from the request to the command's own first act, and to STOPPED, against the same
//! command started and waited for without a server.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a program for people to read")]

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use support::{
    Connection, LOCAL, Samples, Server, folder, heading, now_micros, number, report, tell_load, wait_until, word,
};

/// Runs that are launched as fast as the server takes them.
const MANY: u32 = 200;
/// How many of the raw ones go on at once: as many as the server allows itself.
const AT_ONCE: usize = 16;

fn main() -> Result<()> {
    // The command of the runs: it says when it began.
    if std::env::args().any(|argument| argument == "--stamp") {
        println!("{}", now_micros());
        return Ok(());
    }
    let rounds = number(0, 60)?;
    tell_load()?;
    let folder = folder()?;
    let server = Server::start(folder.path(), LOCAL, &[])?;
    let mut connection = server.connect()?;
    let own = std::env::current_exe()?;
    let stamp_command = format!("exec '{}' --stamp", own.display());
    let stamps = connection.define("stamps", &stamp_command)?;
    let trivial = connection.define("trivial", "true")?;

    let [mut raw_start, mut raw_trivial] = std::array::from_fn(|_| Samples::default());
    let [mut answered, mut noted, mut begun, mut stopped, mut finished] = std::array::from_fn(|_| Samples::default());
    for _ in 0..rounds {
        raw_start.add(raw_first_act(&stamp_command)?);
        let started = start(&mut connection, &stamps)?;
        answered.add(started.answered);
        noted.add(started.noted);
        begun.add(started.first_act);

        let before = Instant::now();
        raw_run()?;
        raw_trivial.add_time(before.elapsed());
        std::thread::sleep(PAUSE);
        let before = Instant::now();
        let run_id = connection.launch(&trivial)?;
        server.connect()?.follow(&run_id)?;
        stopped.add_time(before.elapsed());
        let run = connection.get(&format!("/api/v1/history/{run_id}"))?;
        finished.add(micros(&run, "finished_at")? - micros(&run, "queued_at")?);
        std::thread::sleep(PAUSE);
    }
    heading(&format!("one at a time, {rounds} rounds"));
    report("raw: spawn to the command's first act", &raw_start, &raw_start);
    report("request to 200", &answered, &raw_start);
    report("request to started_at", &noted, &raw_start);
    report("request to the command's first act", &begun, &raw_start);
    report("raw: spawn and wait for `sh -ec true`", &raw_trivial, &raw_trivial);
    report("request to the end of the command", &finished, &raw_trivial);
    report("request to STOPPED, seen by a follower of the log", &stopped, &raw_trivial);

    let [mut raw_rate, mut launch_rate, mut rate] = std::array::from_fn(|_| Samples::default());
    for _ in 0..3 {
        raw_rate.add_time(raw_many()? / MANY);
        let (launched, ended) = many(&mut connection, &trivial)?;
        launch_rate.add_time(launched / MANY);
        rate.add_time(ended / MANY);
    }
    heading(&format!("{MANY} runs as fast as they go, time for each"));
    report(&format!("raw: spawn and wait, {AT_ONCE} at once"), &raw_rate, &raw_rate);
    report("launched, 1 client", &launch_rate, &raw_rate);
    report("STOPPED", &rate, &raw_rate);
    tell_load()
}

/// Between two measurements, so that what one leaves to be cleaned does not lie in the other.
const PAUSE: Duration = Duration::from_millis(40);

struct Started {
    answered: f64,
    noted: f64,
    first_act: f64,
}

/// Launches a run and asks what became of it only when it is over.
fn start(connection: &mut Connection, definition: &str) -> Result<Started> {
    #[expect(clippy::cast_precision_loss, reason = "differences are small")]
    let since = |from: i64, to: i64| (to - from) as f64;
    let (sent, begun) = (now_micros(), Instant::now());
    let run_id = connection.launch(definition)?;
    let answered = begun.elapsed().as_secs_f64() * 1e6;
    std::thread::sleep(PAUSE);
    wait_until(|| Ok(connection.get(&format!("/api/v1/history/{run_id}"))?["status"] == "STOPPED"))?;
    let run = connection.get(&format!("/api/v1/history/{run_id}"))?;
    let log = word(&connection.get(&format!("/api/v1/{run_id}/logs"))?, "log")?;
    let first_act: i64 = log.trim().parse().with_context(|| format!("the log is {log:?}"))?;
    #[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 fit")]
    let noted = micros(&run, "started_at")? - sent as f64;
    Ok(Started { answered, noted, first_act: since(sent, first_act) })
}

fn micros(run: &serde_json::Value, field: &str) -> Result<f64> {
    let time: jiff::Timestamp = word(run, field)?.parse()?;
    #[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 fit")]
    let micros = time.as_microsecond() as f64;
    Ok(micros)
}

fn raw_first_act(command: &str) -> Result<f64> {
    let sent = now_micros();
    let output = Command::new("sh").args(["-ec", command]).output()?;
    let first_act: i64 = String::from_utf8(output.stdout)?.trim().parse()?;
    #[expect(clippy::cast_precision_loss, reason = "differences are small")]
    let micros = (first_act - sent) as f64;
    Ok(micros)
}

fn raw_run() -> Result<()> {
    let status = Command::new("sh").args(["-ec", "true"]).stdin(Stdio::null()).status()?;
    ensure!(status.success(), "`true` failed");
    Ok(())
}

fn raw_many() -> Result<Duration> {
    let begun = Instant::now();
    let left = std::sync::atomic::AtomicU32::new(MANY);
    std::thread::scope(|scope| {
        let worker = || -> Result<()> {
            let take = |left: u32| left.checked_sub(1);
            let order = std::sync::atomic::Ordering::Relaxed;
            while left.fetch_update(order, order, take).is_ok() {
                raw_run()?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?)
    })?;
    Ok(begun.elapsed())
}

/// When all were launched, and when all had stopped.
fn many(connection: &mut Connection, definition: &str) -> Result<(Duration, Duration)> {
    let stopped = |connection: &mut Connection| -> Result<u64> {
        let list = connection.get("/api/v1/history?status=STOPPED&limit=0")?;
        list["total"].as_u64().context("no total")
    };
    let before = stopped(connection)?;
    let begun = Instant::now();
    for _ in 0..MANY {
        connection.launch(definition)?;
    }
    let launched = begun.elapsed();
    wait_until(|| Ok(stopped(connection)? >= before + u64::from(MANY)))?;
    Ok((launched, begun.elapsed()))
}
