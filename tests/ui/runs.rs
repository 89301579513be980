//! The list of all runs.

use serde_json::json;

use crate::world::{Options, World};

#[tokio::test]
async fn without_a_run_the_page_says_how_to_have_one() {
    let world = World::on_sqlite(Options::default()).await;
    world.page("/ui/runs").await.is(200).has("Nothing has run yet");
    world.page("/ui/runs?owner=nobody").await.has("No runs match these filters");
}

#[tokio::test]
async fn runs_are_filtered_by_their_address() {
    let world = World::on_sqlite(Options::default()).await;
    let first = world.define("first", "exit 0").await;
    let second = world.define("second", "exit 3").await;
    let owned = |owner: &str, cluster: &str| json!({"run_tags": {"owner_id": owner}, "cluster": cluster});
    let ended = world.launch(&first, owned("ada", "default")).await;
    world.finish(&ended).await;
    let failed = world.launch(&second, owned("<bob>", "default")).await;
    world.finish(&failed).await;
    let waiting = world.launch(&first, owned("<bob>", "idle")).await;
    let all = [&waiting, &failed, &ended];
    for (query, expected) in [
        (String::new(), vec![&waiting, &failed, &ended]),
        ("status=QUEUED".into(), vec![&waiting]),
        ("status=STOPPED".into(), vec![&failed, &ended]),
        ("status=RUNNING".into(), vec![]),
        (format!("task={first}"), vec![&waiting, &ended]),
        ("cluster=idle".into(), vec![&waiting]),
        ("owner=%3Cbob%3E".into(), vec![&waiting, &failed]),
        (format!("task={first}&owner=%3Cbob%3E&status=QUEUED"), vec![&waiting]),
    ] {
        let page = world.page(&format!("/ui/runs?{query}")).await;
        page.is(200).lacks("<bob>");
        assert_eq!(page.between("data-key=\"", "\""), expected, "{query}");
        for run in all {
            assert_eq!(page.html.contains(&format!("href=\"/ui/runs/{run}\"")), expected.contains(&run), "{query}");
        }
    }
    world.page("/ui/runs").await.has("exited with code 3").has("Failed").has("Queued").has("3 runs");
    world.page("/ui/runs?status=nonsense").await.is(400);
}

#[tokio::test]
async fn a_page_of_a_hundred_runs_is_small() {
    let world = World::on_sqlite(Options::default()).await;
    let task = world.define("a-task-with-a-name", "exit 0").await;
    for _ in 0..120 {
        world.launch(&task, json!({"run_tags": {"owner_id": "ada"}})).await;
    }
    let page = world.page("/ui/runs?limit=100").await;
    assert_eq!(page.html.matches("data-key=").count(), 100);
    page.has("1–100 of 120 runs").has("offset=100");
    let request = axum::http::Request::get("/ui/runs?limit=100").header("accept-encoding", "gzip");
    let answer = world.request(request.body(axum::body::Body::empty()).unwrap()).await;
    let bytes = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    assert!(bytes.len() < 30_000, "{} bytes, {} before compression", bytes.len(), page.html.len());
}

#[tokio::test]
async fn a_task_shows_what_it_is_and_how_its_runs_went() {
    let world = World::on_sqlite(Options::default()).await;
    let body = json!({"alias": "job", "group_name": "testing", "image": world.image, "command": "exit 0", "memory": 2048, "cpu": 250,
                      "tags": ["a&b"], "env": [{"name": "A", "value": "<i>"}]});
    let id = crate::world::text(&world.post("/api/v1/task", body).await.ok()["definition_id"]);
    world
        .page(&format!("/ui/tasks/{id}"))
        .await
        .has("It has never run")
        .has("2 GB")
        .has("0.25 cores")
        .has("a&#38;b")
        .lacks("<i>");
    for command in ["exit 0", "exit 0", "exit 1"] {
        let run = world.launch(&id, json!({"command": command})).await;
        world.finish(&run).await;
    }
    let page = world.page(&format!("/ui/tasks/{id}")).await;
    page.has("66 % of 3 runs").has("class=\"chart\"").has("exited with code 1");
    assert_eq!(page.between("data-key=\"", "\"").len(), 3);
}
