//! One trial: a server under load, what happens to it, and what has to be true afterwards.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::check::check;
use super::load::{LONG, Load, MOVING, SHORT};
use super::program::Server;
use super::random::Random;

/// How many clients launch at once.
const CLIENTS: u32 = 3;
/// Longer than any time limit of the server's: leases, statements, requests to engines.
const FROZEN: Duration = Duration::from_secs(40);

/// Counts its own start in a file, writes numbered lines over a while, and ends with a code that says which it is.
const SHORT_COMMAND: &str = r#"
echo started >> "$STARTS/$NUMBER"
for line in 1 2 3 4 5 6 7 8; do
  echo "run $NUMBER line $line"
  sleep 0.05
done
echo "run $NUMBER ends"
exit $((NUMBER % 7))
"#;

/// The same start, and an end only by a stop.
const LONG_COMMAND: &str = r#"
echo started >> "$STARTS/$NUMBER"
echo "run $NUMBER begins"
sleep 900
"#;

/// How hard it is made.
#[derive(Clone, Copy)]
pub struct Trial {
    /// How often something happens to the server, each time within so many milliseconds of the time before.
    pub disturbances: u32,
    pub within_ms: u64,
    /// How many launches are accepted at most.
    pub most_runs: usize,
    pub image: &'static str,
}

/// The server as it is after all. `cluster` is what a cluster is made of that is added and changed by request; there can be
/// no second one of processes.
pub async fn survive(server: Server, starts: &Path, trial: Trial, cluster: Option<Value>) -> Server {
    server.define_with_image(SHORT, trial.image, SHORT_COMMAND);
    server.define_with_image(LONG, trial.image, LONG_COMMAND);
    let load = Arc::new(Load::new(&server.url, starts, trial.most_runs, cluster));
    load.add_cluster().await;

    let mut random = Random::new();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(Arc::clone(&load).launch_until_over())).collect();
    clients.push(tokio::spawn(Arc::clone(&load).change_cluster_until_over(random.fork())));
    let stopping = tokio::spawn(Arc::clone(&load).stop_long_runs(random.fork()));

    let disturbing = tokio::task::spawn_blocking(move || disturb(server, trial, &mut random));
    let server = disturbing.await.unwrap();
    load.is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    stopping.await.unwrap();
    check(&load).await;
    assert!(!server.said().contains("panicked"), "{}", server.said());
    server
}

fn disturb(mut server: Server, trial: Trial, random: &mut Random) -> Server {
    let long_freeze = random.below(trial.disturbances.into());
    for disturbance in 0..u64::from(trial.disturbances) {
        // The moment is the point of this wait: anywhere within a start, a launch, a run or its end.
        std::thread::sleep(Duration::from_millis(random.below(trial.within_ms)));
        if disturbance == long_freeze {
            freeze(&server, FROZEN);
            continue;
        }
        match random.below(6) {
            0 => freeze(&server, Duration::from_millis(random.below(trial.within_ms))),
            1 => server.restart(),
            _ => server.kill_and_restart(),
        }
    }
    server
}

/// As a suspended machine or a paused container does it: nothing of the server goes on, and then all of it.
fn freeze(server: &Server, time: Duration) {
    server.signal(Signal::SIGSTOP);
    std::thread::sleep(time);
    server.signal(Signal::SIGCONT);
}

/// The cluster for a launch with this number: every third goes to the one that changes.
pub fn cluster_of(number: u32) -> &'static str {
    if number.is_multiple_of(3) { MOVING } else { "default" }
}
