//! What clients do meanwhile: launch, stop, change a cluster.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::random::Random;
use super::trial::cluster_of;

/// The task that ends by itself.
pub const SHORT: &str = "counted";
/// The task that ends only by a stop.
pub const LONG: &str = "endless";
/// The cluster that is changed by request.
pub const MOVING: &str = "moving";
/// Every so many launches, one is of a run that has to be stopped.
const LONG_EVERY: u32 = 5;
/// How long anything may take after the last disturbance.
const PATIENCE: Duration = Duration::from_mins(3);

pub struct Load {
    url: String,
    client: reqwest::Client,
    pub starts: String,
    cluster: Option<Value>,
    /// How many launches are accepted, at most and at least.
    most_runs: usize,
    pub least_runs: usize,
    next: AtomicU32,
    pub is_over: AtomicBool,
    /// The runs of the launches that were answered, by number.
    pub accepted: Mutex<BTreeMap<u32, String>>,
}

pub fn is_long(number: u32) -> bool {
    number % LONG_EVERY == LONG_EVERY - 1
}

impl Load {
    pub fn new(url: &str, starts: &Path, most_runs: usize, cluster: Option<Value>) -> Self {
        Self {
            url: url.to_owned(),
            // A server that was killed leaves connections behind, and a frozen one does not answer on any.
            client: reqwest::Client::builder().timeout(Duration::from_mins(1)).build().unwrap(),
            starts: starts.to_str().unwrap().to_owned(),
            cluster,
            most_runs,
            least_runs: most_runs / 2,
            next: AtomicU32::new(0),
            is_over: AtomicBool::new(false),
            accepted: Mutex::default(),
        }
    }

    pub async fn add_cluster(&self) {
        let Some(settings) = &self.cluster else { return };
        let body = json!({"name": MOVING, "settings": settings});
        let answer = self.client.post(format!("{}/api/v6/clusters", self.url)).body(body.to_string()).send().await;
        let answer = answer.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// Launches one run after the other, until the disturbances are over and enough runs were accepted. A launch without an
    /// answer may have been stored or not; it is not repeated.
    pub async fn launch_until_over(self: Arc<Self>) {
        loop {
            let accepted = self.accepted.lock().await.len();
            let is_enough = accepted >= self.least_runs && self.is_over.load(Ordering::Relaxed);
            if is_enough || accepted >= self.most_runs {
                return;
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let env =
                json!([{"name": "NUMBER", "value": number.to_string()}, {"name": "STARTS", "value": self.starts}]);
            let alias = if is_long(number) { LONG } else { SHORT };
            let request = self.client.put(format!("{}/api/v1/task/alias/{alias}/execute", self.url));
            let cluster = if self.cluster.is_some() { cluster_of(number) } else { "default" };
            let body = json!({"env": env, "cluster": cluster});
            match request.body(body.to_string()).send().await {
                Ok(answer) if answer.status().is_success() => {
                    // An answer that breaks off was none.
                    if let Ok(run) = answer.json::<Value>().await {
                        let run_id = run["run_id"].as_str().unwrap().to_owned();
                        self.accepted.lock().await.insert(number, run_id);
                    }
                }
                // The server may say that it can't now; it must not say that it never will.
                Ok(answer) if answer.status().as_u16() == 503 => {}
                Ok(answer) => panic!("launch {number} was refused: {}", answer.text().await.unwrap_or_default()),
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Asks each endless run to stop at a moment of its own, until the server has said once that it will, also after the
    /// disturbances are over: those whose launch got no answer are found in the list.
    pub async fn stop_long_runs(self: Arc<Self>, mut random: Random) {
        let mut asked = std::collections::BTreeSet::new();
        let begun = Instant::now();
        loop {
            let was_over = self.is_over.load(Ordering::Relaxed);
            let runs = if was_over { self.runs().await } else { None };
            let known: Vec<String> = match &runs {
                Some(runs) => {
                    let long = runs.iter().filter(|run| run["alias"] == LONG);
                    long.map(|run| run["run_id"].as_str().unwrap().to_owned()).collect()
                }
                None => {
                    let accepted = self.accepted.lock().await;
                    accepted.iter().filter(|(number, _)| is_long(**number)).map(|(_, run_id)| run_id.clone()).collect()
                }
            };
            let waiting: Vec<_> = known.into_iter().filter(|run_id| !asked.contains(run_id)).collect();
            if was_over && runs.is_some() && waiting.is_empty() {
                return;
            }
            assert!(begun.elapsed() < 3 * PATIENCE, "these can't be asked to stop: {waiting:?}");
            for run_id in waiting {
                // At any moment of its life: while it waits, is launched, starts, runs.
                tokio::time::sleep(Duration::from_millis(random.below(150))).await;
                if self.stop(&run_id).await {
                    asked.insert(run_id);
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether the server answered that it stops the run.
    async fn stop(&self, run_id: &str) -> bool {
        let Some(run) = self.try_get(&format!("/api/v1/history/{run_id}")).await else { return false };
        let definition_id = run["definition_id"].as_str().unwrap_or_default();
        let request = self.client.delete(format!("{}/api/v1/task/{definition_id}/history/{run_id}", self.url));
        let Ok(answer) = request.send().await else { return false };
        answer.status().is_success() && answer.json::<Value>().await.is_ok_and(|answer| answer["stopped"] == true)
    }

    /// Changes how many runs the cluster may have, again and again.
    pub async fn change_cluster_until_over(self: Arc<Self>, mut random: Random) {
        while let Some(mut settings) = self.cluster.clone().filter(|_| !self.is_over.load(Ordering::Relaxed)) {
            tokio::time::sleep(Duration::from_millis(random.below(400))).await;
            settings["max_running"] = json!(4 + random.below(8));
            let request = self.client.put(format!("{}/api/v6/clusters/{MOVING}", self.url));
            // Without an answer it may have changed or not.
            if let Ok(answer) = request.body(json!({"settings": settings}).to_string()).send().await {
                let status = answer.status().as_u16();
                assert!([200, 409, 503].contains(&status), "{status}: {}", answer.text().await.unwrap_or_default());
            }
        }
    }

    async fn try_get(&self, path: &str) -> Option<Value> {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.ok()?;
        if answer.status().is_success() { answer.json().await.ok() } else { None }
    }

    async fn runs(&self) -> Option<Vec<Value>> {
        let list = self.try_get("/api/v1/history?limit=10000").await?;
        Some(list["history"].as_array()?.clone())
    }

    pub async fn wait_until_all_stopped(&self) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let runs = self.runs().await.unwrap_or_default();
            let going_on: Vec<_> = runs.iter().filter(|run| run["status"] != "STOPPED").collect();
            if !runs.is_empty() && going_on.is_empty() {
                return runs;
            }
            assert!(begun.elapsed() < PATIENCE, "{} runs don't end, such as {:#}", going_on.len(), going_on[0]);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Nothing is counted that is not there any more.
    pub async fn assert_no_place_is_taken(&self) {
        let answer = self.try_get("/api/v6/clusters").await.unwrap();
        for cluster in answer["clusters"].as_array().unwrap() {
            for taken in ["queued", "pending", "running", "needs_retry"] {
                assert_eq!(cluster[taken], 0, "{taken}: {cluster:#}");
            }
        }
    }

    pub async fn log(&self, run_id: &Value) -> String {
        let path = format!("/api/v1/{}/logs?raw_text=true", run_id.as_str().unwrap());
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "the log of {run_id}");
        answer.text().await.unwrap()
    }
}
