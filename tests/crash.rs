//! The server is killed with SIGKILL at random moments under load, again and again. Afterwards every accepted launch
//! has run exactly once, to its end, with its own exit code and its whole log.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that fails says where and why")]

mod program;
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use program::Server;
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// How many clients launch at once.
const CLIENTS: u32 = 3;
/// How long all runs may take to end after the last restart.
const PATIENCE: Duration = Duration::from_mins(2);

/// Counts its own start in a file, writes numbered lines over a while, and ends with a code that tells which it is.
const COMMAND: &str = r#"
echo started >> "$STARTS/$NUMBER"
for line in 1 2 3 4 5 6 7 8; do
  echo "run $NUMBER line $line"
  sleep 0.05
done
echo "run $NUMBER ends"
exit $((NUMBER % 7))
"#;

/// How hard it is made.
struct Trial {
    /// How often the server is killed, each time within so many milliseconds of its start.
    kills: u32,
    within_ms: u64,
    /// How many runs there may be in all.
    most_runs: u32,
    image: &'static str,
}

const LOCAL: Trial = Trial { kills: 12, within_ms: 700, most_runs: 240, image: "none" };

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_random_loses_no_run_and_runs_none_twice_on_sqlite() {
    let starts = tempfile::tempdir().unwrap();
    let server = survive(Server::start(), starts.path(), LOCAL).await;
    assert_no_folder_is_left(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_random_loses_no_run_and_runs_none_twice_on_postgres() {
    let Some(url) = support::postgres_url().await else { return };
    let starts = tempfile::tempdir().unwrap();
    let server = Server::with_config(&format!("[server]\ndatabase_url = {url:?}\n"));
    let server = survive(server, starts.path(), LOCAL).await;
    assert_no_folder_is_left(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_random_loses_no_run_and_runs_none_twice_on_docker() {
    let Some(host) = support::docker_address() else { return };
    let starts = tempfile::tempdir().unwrap();
    let mount = format!("{0}:{0}:rw", starts.path().display());
    let server =
        Server::with_config(&format!("[clusters.boxes]\nengine = \"docker\"\nhost = {host:?}\nmounts = [{mount:?}]\n"));
    let trial = Trial { kills: 8, within_ms: 2500, most_runs: 60, image: support::DOCKER_IMAGE };
    let _server = survive(server, starts.path(), trial).await;
    assert_no_container_is_left(&host, starts.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_random_loses_no_run_and_runs_none_twice_on_kubernetes() {
    let Some(kubeconfig) = support::kubernetes_config() else { return };
    let starts = tempfile::tempdir().unwrap();
    let volume = format!("host:{0}:{0}:rw", starts.path().display());
    let server = Server::with_config(&format!(
        "[clusters.far]\nengine = \"kubernetes\"\ncontext = \"flotilla\"\nkubeconfig = {kubeconfig:?}\nvolumes = [{volume:?}]\n"
    ));
    let trial = Trial { kills: 10, within_ms: 4000, most_runs: 50, image: support::KUBERNETES_IMAGE };
    let server = survive(server, starts.path(), trial).await;
    assert_no_job_is_left(&kubeconfig, &server).await;
}

/// The server as it is after all.
async fn survive(server: Server, starts: &Path, trial: Trial) -> Server {
    server.define_with_image("counted", trial.image, COMMAND);
    let load = Arc::new(Load {
        url: server.url.clone(),
        client: reqwest::Client::new(),
        starts: starts.to_str().unwrap().to_owned(),
        most_runs: trial.most_runs,
        next: AtomicU32::new(0),
        is_over: AtomicBool::new(false),
        accepted: Mutex::default(),
    });
    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(Arc::clone(&load).launch_until_over())).collect();

    let mut random = Random::new();
    let killing = tokio::task::spawn_blocking(move || {
        let mut server = server;
        for _ in 0..trial.kills {
            // The moment is the point of this wait: anywhere within a start, a launch, a run or its end.
            std::thread::sleep(Duration::from_millis(random.below(trial.within_ms)));
            server.kill_and_restart();
        }
        server
    });
    let server = killing.await.unwrap();
    load.is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let accepted = load.accepted.lock().await.clone();
    assert!(accepted.len() > 20, "only {} launches were accepted", accepted.len());
    check(&load, &accepted).await;
    server
}

/// Every run that there is ended once, as its command says; every accepted one is there.
async fn check(load: &Load, accepted: &BTreeMap<u32, String>) {
    let runs = load.wait_until_all_stopped().await;
    let mut by_number: BTreeMap<u32, &Value> = BTreeMap::new();
    for run in &runs {
        let number: u32 = variable(run, "NUMBER").parse().unwrap();
        assert!(by_number.insert(number, run).is_none(), "launch {number} became two runs");
    }
    for (number, run_id) in accepted {
        assert_eq!(
            by_number.get(number).map(|run| &run["run_id"]),
            Some(&json!(run_id)),
            "launch {number} was accepted"
        );
    }
    for (number, run) in by_number {
        let starts = std::fs::read_to_string(format!("{}/{number}", load.starts)).unwrap_or_default();
        assert_eq!(starts, "started\n", "run {number} started once: {run:#}");
        assert_eq!(run["exit_code"], number % 7, "{run:#}");
        let outcome = if number % 7 == 0 { "succeeded" } else { "failed" };
        assert_eq!(run["outcome"], outcome, "{run:#}");
        let lines = (1..=8).map(|line| format!("run {number} line {line}\n")).collect::<Vec<_>>().concat();
        assert_eq!(load.log(&run["run_id"]).await, format!("{lines}run {number} ends\n"));
    }
}

/// Ended attempts are cleaned away, but for the few that the loops have not come to yet.
async fn assert_no_folder_is_left(server: &Server) {
    let runs_dir = server.folder().join("data/runs");
    let begun = Instant::now();
    loop {
        let left: Vec<_> = std::fs::read_dir(&runs_dir)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_dir())
            .collect();
        if left.is_empty() {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "left in {}: {left:?}", runs_dir.display());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn assert_no_container_is_left(host: &str, starts: &Path) {
    let begun = Instant::now();
    loop {
        let mut listing = std::process::Command::new("docker");
        listing
            .args(["--host", host, "ps", "--all", "--quiet", "--filter"])
            .arg(format!("volume={}", starts.display()));
        let listed = listing.output().unwrap();
        assert!(listed.status.success(), "{listed:?}");
        if listed.stdout.is_empty() {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "left: {listed:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn assert_no_job_is_left(kubeconfig: &Path, server: &Server) {
    let history = reqwest::get(format!("{}/api/v1/history?limit=10000", server.url)).await.unwrap();
    let history: Value = history.json().await.unwrap();
    let names = history["history"].as_array().unwrap().iter().map(|run| run["run_id"].as_str().unwrap().to_owned());
    let run_ids: Vec<String> = names.collect();
    let begun = Instant::now();
    loop {
        let mut listing = std::process::Command::new("kubectl");
        listing.arg("--kubeconfig").arg(kubeconfig).args(["get", "jobs,pods", "-o", "name"]);
        let listed = listing.output().unwrap();
        assert!(listed.status.success(), "{listed:?}");
        let text = String::from_utf8(listed.stdout).unwrap();
        if !run_ids.iter().any(|run_id| text.contains(run_id)) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "left: {text}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

struct Load {
    url: String,
    client: reqwest::Client,
    starts: String,
    most_runs: u32,
    next: AtomicU32,
    is_over: AtomicBool,
    accepted: Mutex<BTreeMap<u32, String>>,
}

impl Load {
    /// Launches one run after the other. A launch without an answer may have been stored or not; it is not repeated.
    async fn launch_until_over(self: Arc<Self>) {
        while !self.is_over.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.most_runs {
                return;
            }
            let env =
                json!([{"name": "NUMBER", "value": number.to_string()}, {"name": "STARTS", "value": self.starts}]);
            let request = self.client.put(format!("{}/api/v1/task/alias/counted/execute", self.url));
            match request.body(json!({"env": env}).to_string()).send().await {
                Ok(answer) if answer.status().is_success() => {
                    // An answer that breaks off was none.
                    if let Ok(run) = answer.json::<Value>().await {
                        let run_id = run["run_id"].as_str().unwrap().to_owned();
                        self.accepted.lock().await.insert(number, run_id);
                    }
                }
                Ok(answer) => panic!("launch {number} was refused: {}", answer.text().await.unwrap_or_default()),
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    async fn get(&self, path: &str) -> Value {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap().json().await.unwrap()
    }

    async fn wait_until_all_stopped(&self) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let list = self.get("/api/v1/history?limit=10000").await;
            let runs = list["history"].as_array().unwrap();
            if runs.iter().all(|run| run["status"] == "STOPPED") {
                return runs.clone();
            }
            let going_on: Vec<_> = runs.iter().filter(|run| run["status"] != "STOPPED").collect();
            assert!(begun.elapsed() < PATIENCE, "{} runs don't end, such as {:#}", going_on.len(), going_on[0]);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn log(&self, run_id: &Value) -> String {
        let path = format!("/api/v1/{}/logs?raw_text=true", run_id.as_str().unwrap());
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap().text().await.unwrap()
    }
}

fn variable(run: &Value, name: &str) -> String {
    let var = run["env"].as_array().unwrap().iter().find(|var| var["name"] == name).unwrap();
    var["value"].as_str().unwrap().to_owned()
}

/// Random enough for moments; the seed is printed, and taken from `FLOTILLA_TEST_SEED` to see a failure again.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let given = std::env::var("FLOTILLA_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            u64::from(std::process::id()) ^ u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap()
        });
        eprintln!("FLOTILLA_TEST_SEED={seed}");
        Self(seed)
    }

    /// A number below `most`, by the generator `SplitMix64`.
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % most
    }
}
