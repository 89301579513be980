//! Images and secrets through the whole server: the real binary on a daemon and a registry of the test's own.

use serde_json::Value;

use crate::daemon::{Daemon, Registry};
use crate::program::{Server, until};
use crate::world::{IMAGE, shared_host};

fn server(host: &str) -> Server {
    Server::with_config(&format!(
        "[clusters.default]\nengine = \"docker\"\nhost = {host:?}\nnetwork_mode = \"none\"\n\
         [clusters.trusting]\nengine = \"docker\"\nhost = {host:?}\nnetwork_mode = \"none\"\nimage_check = false\n"
    ))
}

/// The reasons and messages of a run's events.
fn story(run: &Value) -> Vec<(&str, &str)> {
    let events = run["pod_events"].as_array().unwrap().iter();
    events.map(|event| (event["reason"].as_str().unwrap(), event["message"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn images_are_looked_up_fetched_once_and_told_of() {
    let (Some(daemon), Some(registry)) = (Daemon::start(&[]).await, Registry::start().await) else { return };
    let image = registry.push(&daemon, "team/busybox:1");
    daemon.forget_images();
    let server = server(&daemon.host());

    server.define_with_image("misspelt", &format!("{image}2"), "true");
    let execute = format!("{}/api/v1/task/alias/misspelt/execute", server.url);
    let refused = reqwest::Client::new().put(execute).body("{}").send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 400);
    let error = refused.text().await.unwrap();
    for part in [&format!("{image}2"), &registry.address, "manifest unknown"] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
    // Where it is not looked for beforehand, the run ends with the reason.
    let run_id = server.text(&["run", "misspelt", "--cluster", "trusting", "-q"]);
    let run = server.wait_for(run_id.trim(), "STOPPED");
    assert_eq!(run["outcome"], "rejected", "{run}");
    let reason = run["exit_reason"].as_str().unwrap();
    assert!(reason.contains("can't be fetched") && reason.contains("manifest unknown"), "{reason}");

    server.define_with_image("fine", &image, "echo hello");
    let runs = [server.launch("fine"), server.launch("fine")];
    for run_id in &runs {
        let run = server.wait_for(run_id, "STOPPED");
        assert_eq!(run["outcome"], "succeeded", "{run}");
        let digest = run["image_digest"].as_str().unwrap();
        assert!(digest.starts_with(&format!("{}/team/busybox@sha256:", registry.address)), "{digest}");
        let story = story(&run);
        assert!(story.iter().any(|(reason, _)| *reason == "Pulled"), "{story:?}");
        assert_eq!(server.text(&["logs", "-f", run_id]), "hello\n");
    }
    let begun = runs.iter().filter(|run_id| {
        let run = server.json(&["show", run_id]);
        story(&run).iter().any(|(reason, text)| *reason == "Pulling" && text.starts_with("fetching image"))
    });
    assert_eq!(begun.count(), 1, "one pull is shared");

    // A registry that is away refuses nothing; the run waits, says why, and can be stopped.
    let away = image.replace("busybox", "elsewhere");
    drop(registry);
    server.define_with_image("waiting", &away, "true");
    let run_id = server.launch("waiting");
    until("the run says why it waits", || {
        let run = server.json(&["show", &run_id]);
        story(&run).iter().any(|(reason, text)| *reason == "PullFailed" && text.contains("connection refused"))
    });
    server.text(&["stop", &run_id]);
    assert_eq!(server.wait_for(&run_id, "STOPPED")["outcome"], "stopped");
}

#[tokio::test]
async fn nothing_of_a_runs_environment_is_in_the_servers_log_whatever_is_logged() {
    let Some(host) = shared_host() else { return };
    let server = Server::with_config(&format!(
        "[telemetry]\nlog_filter = \"trace,bollard=trace,hyper=trace\"\n\
         [clusters.default]\nengine = \"docker\"\nhost = {host:?}\nnetwork_mode = \"none\"\n"
    ));
    server.define_with_image("secretive", IMAGE, "echo \"$TOKEN\" | md5sum; exit 3");
    let secret = "not-for-anyone's-eyes";
    let run_id = server.text(&["run", "secretive", "-e", &format!("TOKEN={secret}"), "-q"]);
    let run = server.wait_for(run_id.trim(), "STOPPED");
    assert_eq!(run["exit_code"], 3, "{run}");
    server.wait_until_said("status changed");
    assert!(!server.said().contains(secret), "{}", server.said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sees_forty_runs_stopped_reads_the_whole_log_of_each_at_once() {
    const RUNS: usize = 40;
    let Some(host) = shared_host() else { return };
    let server = server(&host);
    server.define_with_image(
        "chatty",
        IMAGE,
        "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done; echo the end",
    );
    let expected: String = (0..300).map(|i| format!("line {i}\n")).chain(["the end\n".to_owned()]).collect();
    let run_ids: Vec<_> = (0..RUNS).map(|_| server.launch("chatty")).collect();
    let client = reqwest::Client::new();
    let reading = run_ids.iter().map(async |run_id| {
        let url = |path: &str| format!("{}/api/{path}", server.url);
        // As existing clients do: poll until it has stopped, then read to the end, once.
        loop {
            let run: Value =
                client.get(url(&format!("v1/history/{run_id}"))).send().await.unwrap().json().await.unwrap();
            if run["status"] == "STOPPED" {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let mut log = String::new();
        let mut token = String::new();
        loop {
            let url = url(&format!("v1/{run_id}/logs?last_seen={token}"));
            let piece: Value = client.get(url).send().await.unwrap().json().await.unwrap();
            log.push_str(piece["log"].as_str().unwrap());
            let next = piece["last_seen"].as_str().unwrap();
            if next == token {
                return log;
            }
            next.clone_into(&mut token);
        }
    });
    let logs = futures_util::future::join_all(reading).await;
    let short = logs.iter().filter(|log| **log != expected).count();
    assert_eq!(short, 0, "of {RUNS} logs");
}
