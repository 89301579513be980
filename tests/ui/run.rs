//! The page of a run, and stopping it.

use axum::body::Body;
use axum::http::Request;
use jiff::SignedDuration;
use serde_json::json;

use crate::world::{Options, World};

fn page_of(run: &str) -> String {
    format!("/ui/runs/{run}")
}

#[tokio::test]
async fn a_run_is_told_from_its_launch_to_its_end() {
    let world = World::on_sqlite(Options::default()).await;
    let task = world.define("worker", "echo hello; sleep 1000 || true; exit 0").await;
    let run = world.launch(&task, json!({"run_tags": {"owner_id": "ada"}, "cluster": "default"})).await;
    world
        .page(&page_of(&run))
        .await
        .is(200)
        .has("<title>Queued: worker")
        .has("It waits for a place on the cluster default");
    world.step_until(&run, |run| run["status"] == "RUNNING").await;
    world.advance(SignedDuration::from_secs(3));
    let page = world.page(&page_of(&run)).await;
    page.has("<title>Running: worker").has("It has been running for").has("data-live").has("<dd>ada</dd>");
    page.has(&format!("href=\"/ui/runs/{run}/stop\"")).has("class=\"phase-running\"");
    world.go_on(&run).await;
    world.finish(&run).await;
    let page = world.page(&page_of(&run)).await;
    page.has("<title>Succeeded: worker").has("It succeeded in").has("class=\"phase-succeeded\"").lacks("/stop\"");
    page.has("hello").has("<dt>Exit code</dt><dd>0</dd>");
}

#[tokio::test]
async fn a_page_that_can_not_change_any_more_is_not_looked_at_again() {
    let world = World::on_sqlite(Options::default()).await;
    let run = world.run("exit 0").await;
    world.page(&page_of(&run)).await.has(" data-live>");
    world.step_until(&run, |run| run["status"] == "STOPPED").await;
    let attempt = World::attempt(&run, 1);
    while !world.store.run(attempt.run_id).await.unwrap().unwrap().is_log_complete {
        world.step().await;
    }
    world.page(&page_of(&run)).await.lacks(" data-live>");
}

#[tokio::test]
async fn one_that_failed_is_told_why_and_what_to_do() {
    let world = World::on_sqlite(Options::default()).await;
    for (command, heading, step) in [
        ("exit 127", "A command was not found", "To the task"),
        ("exit 3", "It failed with exit code 3", "href=\"#log\""),
        ("kill -9 $$", "It was killed (SIGKILL)", "Launch again"),
    ] {
        let run = world.run(command).await;
        world.finish(&run).await;
        world.page(&page_of(&run)).await.has(heading).has(step);
    }
}

#[tokio::test]
async fn one_that_waits_is_told_why() {
    let world = World::on_sqlite(Options::default()).await;
    let drained = json!({"status": "maintenance", "status_reason": "new <disks>"});
    world.put("/api/v6/clusters/idle", drained).await.ok();
    let task = world.define("worker", "exit 0").await;
    let run = world.launch(&task, json!({"cluster": "idle"})).await;
    let page = world.page(&page_of(&run)).await;
    page.has("The cluster idle is in maintenance").has("new &#60;disks&#62;").has("href=\"/ui/clusters/idle\"");
}

#[tokio::test]
async fn a_run_is_stopped_by_a_form_that_asks_back() {
    let world = World::on_sqlite(Options::default()).await;
    let task = world.define("worker", "sleep 5").await;
    let run = world.launch(&task, json!({})).await;
    let child = json!({"env": [{"name": "PARENT_FLOTILLA_RUN_ID", "value": run}]});
    let child = world.launch(&task, child).await;
    world.step_until(&run, |run| run["status"] == "RUNNING").await;
    world.advance(SignedDuration::from_secs(3));
    let stop = format!("/ui/runs/{run}/stop");
    let page = world.page(&stop).await;
    page.is(200).has("Stop worker?").has("1 run that it launched").has(&format!("action=\"{stop}\""));
    assert_eq!(world.form(&stop, &[]).await.leads_to(), page_of(&run));
    world.page(&page_of(&run)).await.has("It is being stopped").lacks("/stop\"");
    world.advance(SignedDuration::from_secs(1));
    for run in [&run, &child] {
        world.step_until(run, |run| run["status"] == "STOPPED").await;
    }
    world.page(&page_of(&run)).await.has("It was stopped on request").has("class=\"mark\"");
    world.page(&page_of(&child)).await.has("since its parent was").has(&page_of(&run));
    world.page(&stop).await.has("It has ended already");
    world.form(&stop, &[]).await.leads_to();
}

#[tokio::test]
async fn a_stop_from_another_site_is_refused() {
    let world = World::on_sqlite(Options::default()).await;
    let run = world.run("sleep 5").await;
    let stop = format!("/ui/runs/{run}/stop");
    for (name, value) in [("origin", "http://evil.test"), ("sec-fetch-site", "cross-site"), ("accept", "text/html")] {
        let request = Request::post(&stop).header("host", "flotilla.test").header(name, value);
        world.visit(request.body(Body::empty()).unwrap()).await.is(403);
    }
    assert_eq!(world.history(&run).await["status"], "QUEUED");
}

#[tokio::test]
async fn a_run_is_run_again_once_however_often_its_form_is_sent() {
    let world = World::on_sqlite(Options::default()).await;
    let run = world.run("exit 0").await;
    world.finish(&run).await;
    let page = world.page(&page_of(&run)).await;
    page.has(&format!("/launch?from={run}\""));
    let nonce = page.between("name=\"nonce\" value=\"", "\"")[0].to_owned();
    let again = format!("/ui/runs/{run}/again");
    let first = world.form(&again, &[("nonce", &nonce)]).await.leads_to();
    assert_eq!(world.form(&again, &[("nonce", &nonce)]).await.leads_to(), first);
    assert_ne!(first, page_of(&run));
    let page = world.page(&page_of(&run)).await;
    assert_ne!(page.between("name=\"nonce\" value=\"", "\"")[0], nonce, "another press is another run");
}

#[tokio::test]
async fn a_run_of_a_task_that_was_deleted_leads_nowhere_that_is_not() {
    let world = World::on_sqlite(Options::default()).await;
    let task = world.define("worker", "exit 127").await;
    let run = world.launch(&task, json!({})).await;
    world.finish(&run).await;
    world.delete(&format!("/api/v1/task/{task}")).await.ok();
    world.page(&page_of(&run)).await.is(200).lacks("/ui/tasks/").lacks("/again\"").has("(deleted)");
}

#[tokio::test]
async fn parents_and_children_lead_to_one_another() {
    for world in [Some(World::on_sqlite(Options::default()).await), World::on_postgres(Options::default()).await]
        .into_iter()
        .flatten()
    {
        let task = world.define("worker", "exit 0").await;
        let parent = world.launch(&task, json!({"cluster": "idle"})).await;
        for _ in 0..60 {
            let env = json!({"env": [{"name": "PARENT_FLOTILLA_RUN_ID", "value": parent}], "cluster": "idle"});
            world.launch(&task, env).await;
        }
        let page = world.page(&page_of(&parent)).await;
        page.has("60 runs launched by this one").has("The first 50 are shown.");
        let child = page.between("<li data-key=\"", "\"")[0].to_owned();
        world.page(&page_of(&child)).await.has(&format!("href=\"/ui/runs/{parent}\""));
    }
}

#[tokio::test]
async fn what_comes_from_a_task_is_never_markup() {
    let world = World::on_sqlite(Options::default()).await;
    let evil = "<script>alert(1)</script>";
    let body = json!({
        "alias": evil, "group_name": "g", "image": "i", "command": format!("echo {evil}"),
        "env": [{"name": "A", "value": "\"><b>"}],
    });
    let task = crate::world::text(&world.post("/api/v1/task", body).await.ok()["definition_id"]);
    let launch = json!({
        "run_tags": {"owner_id": "<i>ada</i>"}, "labels": {"<u>": "<u>"}, "description": "</p><hr>",
    });
    let run = world.launch(&task, launch).await;
    world.finish(&run).await;
    for path in [page_of(&run), format!("{}/stop", page_of(&run)), "/ui".to_owned(), "/ui/clusters/default".to_owned()]
    {
        let page = world.page(&path).await;
        page.is(200);
        for markup in ["<script>alert", "<b>", "<i>", "<u>", "<hr>"] {
            page.lacks(markup);
        }
    }
}

#[tokio::test]
async fn an_unknown_run_is_a_page_that_says_so() {
    let world = World::on_sqlite(Options::default()).await;
    for run in ["nothing", "01a20490-1bc6-700e-b65e-8cbda6b5bc96"] {
        world.page(&page_of(run)).await.is(404).has("There is no run");
        world.page(&format!("/ui/runs/{run}/stop")).await.is(404);
        world.form(&format!("/ui/runs/{run}/stop"), &[]).await.is(404);
    }
}

#[tokio::test]
async fn a_page_that_has_not_changed_is_not_sent_again() {
    let world = World::on_sqlite(Options::default()).await;
    let run = world.run("exit 0").await;
    let whole = world.page(&page_of(&run)).await;
    let live = world.page(&format!("/ui/runs/{run}?live=true")).await;
    whole.has("data-log=").has(&format!("data-live-from=\"/ui/runs/{run}?live=true\""));
    live.lacks("data-log=");
    let ask = |tag: &str| {
        let request = Request::get(page_of(&run)).header("if-none-match", tag).body(Body::empty()).unwrap();
        world.visit(request)
    };
    let same = ask(whole.header("etag")).await;
    assert_eq!((same.status, same.html.as_str()), (304, ""));
    assert_eq!(ask("W/\"0\"").await.status, 200);
    world.finish(&run).await;
    assert_eq!(ask(whole.header("etag")).await.status, 200);
}
