//! Clusters that come and go while the real server runs, on a real Docker Engine.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;
mod support;

use program::{Server, until};
use serde_json::{Value, json};

struct Api {
    server: Server,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Api {
    fn start() -> Self {
        let server = Server::with_config("[server]\nclusters_by_request = true\n");
        Self {
            server,
            // The server is killed in between, and with it what would be kept open.
            client: reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        }
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}/api{path}", self.server.url);
        let request = self.client.request(method.parse().unwrap(), url).json(body);
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json().await.unwrap())
        })
    }

    #[track_caller]
    fn ok(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.send(method, path, body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    #[track_caller]
    fn refused(&self, status: u16, method: &str, path: &str, body: &Value) -> String {
        let (answered, answer) = self.send(method, path, body);
        assert_eq!(answered, status, "{answer}");
        answer["error"].as_str().unwrap().to_owned()
    }

    fn names(&self) -> Vec<String> {
        let names = self.ok("GET", "/v1/clusters", &Value::Null)["clusters"].clone();
        serde_json::from_value(names).unwrap()
    }

    fn launch(&self, alias: &str, cluster: &str) -> String {
        let run = self.ok("PUT", &format!("/v1/task/alias/{alias}/execute"), &json!({"cluster": cluster}));
        run["run_id"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_cluster_is_added_used_drained_and_removed_without_a_restart_of_the_server() {
    let Some(host) = support::docker_address() else { return };
    let mut api = Api::start();
    let far = json!({"name": "far", "settings": {"engine": "docker", "host": host, "max_running": 2}});
    let added = api.ok("POST", "/v6/clusters", &far);
    assert_eq!(
        (&added["engine"], &added["status"], &added["max_running"]),
        (&json!("docker"), &json!("active"), &json!(2))
    );
    assert_eq!(api.names(), ["default", "far", "local"]);
    assert_eq!(api.refused(409, "POST", "/v6/clusters", &far), "there is a cluster \"far\" already");

    api.server.define_with_image("hello", support::DOCKER_IMAGE, "echo hello");
    let run_id = api.launch("hello", "far");
    let run = api.server.wait_for(&run_id, "STOPPED");
    assert_eq!((&run["exit_code"], &run["engine"], &run["cluster"]), (&json!(0), &json!("docker"), &json!("far")));

    api.ok("PUT", "/v6/clusters/far", &json!({"status": "offline", "status_reason": "moving house"}));
    let waiting = api.launch("hello", "far");
    let refusal = api.refused(409, "DELETE", "/v6/clusters/far", &Value::Null);
    assert!(refusal.starts_with("1 run waits for and 0 are on the cluster far"), "{refusal}");

    // What was said of it outlives the server.
    api.server.kill_and_restart();
    assert_eq!(api.names(), ["default", "far", "local"]);
    let run = api.ok("GET", &format!("/v1/history/{waiting}"), &Value::Null);
    assert_eq!(run["status"], "QUEUED");
    assert!(run["waiting_reason"].as_str().unwrap().ends_with(": moving house"), "{run}");

    let changed = json!({"status": "active", "settings": {"engine": "docker", "host": host, "max_running": 3}});
    assert_eq!(api.ok("PUT", "/v6/clusters/far", &changed)["status"], "active");
    assert_eq!(api.server.wait_for(&waiting, "STOPPED")["exit_code"], 0);
    until("the new limit is in force", || api.ok("GET", "/v6/clusters/far", &Value::Null)["max_running"] == json!(3));
    until("nothing is left of its runs, and it can be removed", || {
        api.send("DELETE", "/v6/clusters/far", &Value::Null).0 == 200
    });
    assert_eq!(api.names(), ["default", "local"]);
    assert_eq!(api.send("GET", "/v6/clusters/far", &Value::Null).0, 404);
    let refusal = api.refused(400, "PUT", "/v1/task/alias/hello/execute", &json!({"cluster": "far"}));
    assert!(refusal.contains("\"far\" is not known; there is default, local"), "{refusal}");
}

#[test]
fn a_cluster_that_can_not_be_is_refused_with_what_is_wrong() {
    let api = Api::start();
    for (body, expected) in [
        (json!({"settings": {"engine": "docker"}}), "`name` is needed"),
        (json!({"name": "far"}), "needs the key `engine`"),
        (json!({"name": "a b", "settings": {"engine": "docker"}}), "`name` must be"),
        (json!({"name": "far", "settings": {"engine": "docker", "hots": "x"}}), "did you mean `host`?"),
        (json!({"name": "far", "settings": {"engine": "local"}}), "must not be `local`"),
        (json!({"name": "local", "settings": {"engine": "docker"}}), "must not be local"),
    ] {
        let error = api.refused(400, "POST", "/v6/clusters", &body);
        assert!(error.contains(expected), "{body}: {error}");
    }
    let local = api.refused(409, "DELETE", "/v6/clusters/local", &Value::Null);
    assert!(local.contains("part of the server's configuration"), "{local}");
    assert_eq!(api.names(), ["default", "local"]);
}

#[test]
fn a_limit_that_changes_leaves_running_and_starting_runs_alone() {
    let Some(host) = support::docker_address() else { return };
    let api = Api::start();
    let settings = |limit: u32, host: &str| json!({"engine": "docker", "host": host, "max_running": limit});
    api.ok("POST", "/v6/clusters", &json!({"name": "far", "settings": settings(1, &host)}));
    api.server.define_with_image(
        "slow",
        support::DOCKER_IMAGE,
        "i=0; while [ $i -lt 100 ]; do echo $i; i=$((i+1)); done; sleep 1000",
    );
    let (first, second) = (api.launch("slow", "far"), api.launch("slow", "far"));
    api.server.wait_for(&first, "RUNNING");
    for limit in [2, 3, 4] {
        api.ok("PUT", "/v6/clusters/far", &json!({"settings": settings(limit, &host)}));
    }
    api.server.wait_for(&second, "RUNNING");
    assert!(!api.server.said().contains("its loops end first"), "{}", api.server.said());

    // Where it is can't change while anything is there.
    let moved = json!({"settings": settings(4, "unix:///nonexistent/docker.sock")});
    let refusal = api.refused(409, "PUT", "/v6/clusters/far", &moved);
    assert!(refusal.starts_with("2 runs are on the cluster far"), "{refusal}");
    assert!(api.refused(409, "DELETE", "/v6/clusters/far", &Value::Null).contains("2 are on the cluster far"));

    // What only new runs notice may: the loops end, and others begin, which go on with what is there.
    let mut other = settings(4, &host);
    other["read_only_root"] = json!(true);
    api.ok("PUT", "/v6/clusters/far", &json!({"settings": other}));
    api.server.wait_until_said("its loops end first");
    until("another set has begun", || api.server.said().matches("cluster added").count() == 2);
    for run_id in [&first, &second] {
        api.server.text(&["stop", run_id]);
        let run = api.server.wait_for(run_id, "STOPPED");
        assert_eq!((&run["outcome"], &run["attempt_count"]), (&json!("stopped"), &json!(1)), "{run}");
        let expected: String = (0..100).map(|i| format!("{i}\n")).collect();
        let log = api.server.text(&["logs", run_id]);
        // A shell may say that what it waited for was stopped.
        assert_eq!(
            log.lines().filter(|line| *line != "Terminated").collect::<Vec<_>>(),
            expected.lines().collect::<Vec<_>>()
        );
    }
    until("nothing is left there, and it can move", || api.send("PUT", "/v6/clusters/far", &moved).0 == 200);
}
