//! The list of tasks.

use serde_json::json;

use crate::world::{Options, World};

async fn define(world: &World, alias: &str, group: &str, image: &str, tags: &[&str]) -> String {
    let body = json!({"alias": alias, "group_name": group, "image": image, "command": "exit 0", "tags": tags});
    crate::world::text(&world.post("/api/v1/task", body).await.ok()["definition_id"])
}

#[tokio::test]
async fn without_a_task_the_page_says_how_to_make_one() {
    let world = World::on_sqlite(Options::default()).await;
    world.page("/ui/tasks").await.is(200).has("Define what you want to run").has("href=\"/ui/tasks/new\"");
}

#[tokio::test]
async fn a_search_looks_into_alias_group_image_and_tags() {
    for world in [Some(World::on_sqlite(Options::default()).await), World::on_postgres(Options::default()).await]
        .into_iter()
        .flatten()
    {
        define(&world, "alpha", "science", "trainer:1", &["Nightly"]).await;
        define(&world, "beta", "science", "loader:2", &[]).await;
        define(&world, "100%", "ops", "loader:2", &["nightly", "x_y"]).await;
        for (search, expected) in [
            ("", vec!["100%", "alpha", "beta"]),
            ("ALPH", vec!["alpha"]),
            ("scien", vec!["alpha", "beta"]),
            ("loader", vec!["100%", "beta"]),
            ("nightly", vec!["100%", "alpha"]),
            ("nightly%20trainer", vec!["alpha"]),
            ("%25", vec!["100%"]),
            ("x_y", vec!["100%"]),
            ("x.y", vec![]),
        ] {
            let page = world.page(&format!("/ui/tasks?q={search}")).await;
            let mut names = page.between("class=\"name\" href=\"", "</a>");
            for name in &mut names {
                *name = name.split('>').nth(1).unwrap();
            }
            assert_eq!(names, expected, "{search}");
        }
        world.page(&format!("/ui/tasks?q={}", "a+".repeat(5000))).await.is(200);
        world.page("/ui/tasks?q=nowhere").await.has("No tasks match this search").has("value=\"nowhere\"");
    }
}

#[tokio::test]
async fn a_task_shows_how_its_last_runs_ended_and_how_long_they_take() {
    for world in [Some(World::on_sqlite(Options::default()).await), World::on_postgres(Options::default()).await]
        .into_iter()
        .flatten()
    {
        let task = world.define("worker", "exit 0").await;
        world.define("idle", "exit 0").await;
        for _ in 0..3 {
            let run = world.launch(&task, json!({})).await;
            world.finish(&run).await;
        }
        world.launch(&task, json!({})).await;
        let page = world.page("/ui/tasks").await;
        page.has("aria-label=\"last 4 runs: 3 succeeded, 1 queued\"").has("Never run").has("2 tasks");
        assert_eq!(page.between("class=\"pill is-", "\""), ["queued"]);
    }
}

#[tokio::test]
async fn names_of_tasks_are_shown_as_they_are_and_never_as_markup() {
    let world = World::on_sqlite(Options::default()).await;
    let evil = "<script>alert(1)</script>";
    define(&world, evil, "a\"><b>?#%", "i", &["<i>"]).await;
    let page = world.page("/ui/tasks").await;
    page.lacks("<script>alert").lacks("<b>").lacks("<i>").has("&#60;script&#62;alert(1)&#60;/script&#62;");
    page.has("href=\"/ui/tasks/a%22%3E%3Cb%3E%3F%23%25-");
    world.page("/ui/tasks?q=%22%3E%3Cscript%3E").await.lacks("\"><script>");
}

#[tokio::test]
async fn a_task_shows_a_short_command_as_it_is_and_folds_a_long_one_away() {
    let world = World::on_sqlite(Options::default()).await;
    for (lines, is_folded) in [(12, false), (13, true)] {
        let env: Vec<_> = (0..lines).map(|i| json!({"name": format!("V{i}"), "value": "x"})).collect();
        let body = json!({"group_name": "g", "image": "i", "command": "true\n".repeat(lines), "env": env});
        let id = crate::world::text(&world.post("/api/v1/task", body).await.ok()["definition_id"]);
        let page = world.page(&format!("/ui/tasks/{id}")).await;
        page.is(200).has("<pre class=\"code wraps\" tabindex=\"0\">true");
        let folded =
            ["<summary>13 lines</summary>", "<summary>13 variables</summary>"].map(|text| page.html.contains(text));
        assert_eq!(folded, [is_folded; 2], "{lines}");
    }
}

#[tokio::test]
async fn what_was_deleted_is_told_in_few_words_and_never_as_markup() {
    let world = World::on_sqlite(Options::default()).await;
    for i in 0..3 {
        define(&world, &format!("task-{i}"), "g", "i", &[]).await;
    }
    let name = format!("%3Cb%3E{}", "x".repeat(5000));
    let page = world.page(&format!("/ui/tasks?limit=1&deleted={name}")).await;
    page.is(200).has("role=\"status\"").has("&#60;b&#62;xxx").has("x… was deleted").lacks("<b>");
    // What is live, sorted, searched or paged asks again without it.
    let asked_again = page.between("<form class=\"search\"", "</main>")[0];
    assert!(!asked_again.contains("deleted"), "{asked_again}");
    world.page("/ui/tasks").await.lacks("deleted");
}

#[tokio::test]
async fn a_list_leads_to_its_next_page_and_keeps_its_filters() {
    let world = World::on_sqlite(Options::default()).await;
    for i in 0..5 {
        define(&world, &format!("task-{i}"), "g", "i", &["a&b"]).await;
    }
    let page = world.page("/ui/tasks?limit=2&tag=a%26b&q=task&sort_by=alias&order=desc").await;
    page.has("1–2 of 5 tasks").has("aria-sort=\"descending\"");
    let next = page.between("rel=\"next\"", "").len();
    assert_eq!(next, 1);
    let links = page.between("<a class=\"button small\" href=\"", "\"");
    let next = links.iter().find(|link| link.contains("offset=2")).unwrap().replace("&#38;", "&");
    let page = world.page(&next).await;
    page.has("3–4 of 5 tasks").has("task-2").has("task-1").lacks("task-3");
}

#[tokio::test]
async fn the_palette_finds_tasks_and_runs() {
    let world = World::on_sqlite(Options::default()).await;
    let task = world.define("<worker>", "exit 0").await;
    let run = world.launch(&task, json!({})).await;
    let found = world.get("/ui/palette?q=work").await.ok();
    assert_eq!(found, json!([{"text": "<worker>", "hint": "testing", "address": format!("/ui/tasks/{task}")}]));
    let found = world.get(&format!("/ui/palette?q={run}")).await.ok();
    assert_eq!(found[0]["address"], format!("/ui/runs/{run}"));
}

/// So much that a person can't look over more, so little that it is there at once.
#[tokio::test]
async fn a_page_of_a_hundred_tasks_is_small() {
    let world = World::on_sqlite(Options::default()).await;
    for i in 0..100 {
        let id = define(
            &world,
            &format!("task-{i}"),
            &format!("group-{}", i % 7),
            "registry/image:latest",
            &["nightly", "gpu"],
        )
        .await;
        for _ in 0..10 {
            world.launch(&id, json!({})).await;
        }
    }
    let page = world.page("/ui/tasks?limit=100").await;
    assert_eq!(page.html.matches("data-key=").count(), 100);
    let request = axum::http::Request::get("/ui/tasks?limit=100").header("accept-encoding", "gzip");
    let answer = world.request(request.body(axum::body::Body::empty()).unwrap()).await;
    let bytes = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    assert!(bytes.len() < 30_000, "{} bytes, {} before compression", bytes.len(), page.html.len());
}
