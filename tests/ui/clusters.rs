//! Clusters: seen, taken out of service, and back.

use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use crate::world::{Options, World};

#[tokio::test]
async fn clusters_show_what_they_do_and_what_waits_for_them() {
    for world in [Some(World::on_sqlite(Options::default()).await), World::on_postgres(Options::default()).await]
        .into_iter()
        .flatten()
    {
        let task = world.define("worker", "sleep 9").await;
        let running = world.launch(&task, json!({})).await;
        world.step_until(&running, |run| run["status"] == "RUNNING").await;
        let waiting = world.launch(&task, json!({"cluster": "idle"})).await;
        let list = world.page("/ui/clusters").await;
        list.is(200).has("href=\"/ui/clusters/default\"").has("href=\"/ui/clusters/idle\"").has(">default</span>");
        let page = world.page("/ui/clusters/default").await;
        page.is(200).has(&format!("href=\"/ui/runs/{running}\"")).has("Nothing waits for it.");
        let page = world.page("/ui/clusters/idle").await;
        page.has(&format!("href=\"/ui/runs/{waiting}\"")).has("Nothing runs here at the moment.").lacks(&running);
    }
}

#[tokio::test]
async fn a_cluster_is_drained_with_a_reason_and_resumed() {
    let world = World::on_sqlite(Options::default()).await;
    let task = world.define("worker", "exit 0").await;
    let path = "/ui/clusters/default";
    let drain = [("status", "maintenance"), ("reason", " new <disks> ")];
    assert_eq!(world.form(path, &drain).await.leads_to(), path);
    let page = world.page(path).await;
    page.has("It takes no new runs").has("new &#60;disks&#62;").has("Resume").lacks("Drain");
    let run = world.launch(&task, json!({})).await;
    world.step().await;
    assert_eq!(world.history(&run).await["status"], "QUEUED");
    world.page("/ui/clusters").await.has("Maintenance").has("new &#60;disks&#62;");
    world.form(path, &[("status", "active")]).await.leads_to();
    world.finish(&run).await;
    world.page(path).await.has("Drain").lacks("It takes no new runs").lacks("disks");
}

#[tokio::test]
async fn one_that_can_not_be_reached_says_why() {
    let world = World::on_sqlite(Options::default()).await;
    world.script().set_available(Some("no route to <host>"));
    let page = world.page("/ui/clusters/default").await;
    page.has("Unreachable").has("no route to &#60;host&#62;").has("nothing is concluded about its runs");
}

#[tokio::test]
async fn what_can_not_be_said_of_a_cluster_is_refused_and_kept() {
    let world = World::on_sqlite(Options::default()).await;
    let path = "/ui/clusters/idle";
    world.form(path, &[("status", "gone")]).await.is(400).has("is none of active, maintenance, offline");
    world.form(path, &[]).await.is(400);
    let long = "x".repeat(20_000);
    let page = world.form(path, &[("status", "offline"), ("reason", &long)]).await;
    page.is(400).has("role=\"alert\"").lacks("status_reason").has(&long).has("Drain");
    world.form("/ui/clusters/nowhere", &[("status", "offline")]).await.is(404);
    world.page("/ui/clusters/nowhere").await.is(404).has("There is no cluster");
    let request = Request::post(path).header("host", "flotilla.test").header("origin", "http://evil.test");
    world.visit(request.body(Body::from("status=offline")).unwrap()).await.is(403);
    world.page(path).await.has("Active");
}

/// So much that a person can't look over more, so little that it is there at once.
#[tokio::test]
async fn the_page_of_a_busy_cluster_is_small() {
    let world = World::on_sqlite(Options::default()).await;
    let task = world.define("worker-with-a-rather-long-name", "exit 0").await;
    for i in 0..100 {
        let owner = format!("owner-{}", i % 9);
        world.launch(&task, json!({"cluster": "idle", "run_tags": {"owner_id": owner}})).await;
    }
    world.page("/ui/clusters/idle").await.has("75 more runs");
    for path in ["/ui/clusters/idle", "/ui", "/ui/runs?limit=100"] {
        let request = Request::get(path).header("accept-encoding", "gzip").body(Body::empty()).unwrap();
        let answer = world.request(request).await;
        let bytes = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        assert!(bytes.len() < 30_000, "{path}: {} bytes", bytes.len());
    }
}
