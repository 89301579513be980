//! What goes on, at a glance.

use jiff::SignedDuration;
use serde_json::json;

use crate::world::{Options, World};

#[tokio::test]
async fn the_first_steps_are_shown_until_there_is_a_run() {
    let world = World::on_sqlite(Options::default()).await;
    world
        .page("/ui")
        .await
        .is(200)
        .has("First steps")
        .has("href=\"/ui/tasks/new\"")
        .has("flotilla define -f hello.toml");
    let task = world.define("worker", "exit 0").await;
    world.page("/ui").await.has("Now launch a task");
    world.launch(&task, json!({})).await;
    world.page("/ui").await.lacks("First steps").lacks("Now launch a task").has("Runs that ended");
}

#[tokio::test]
async fn what_runs_waits_and_failed_is_seen() {
    for world in [Some(World::on_sqlite(Options::default()).await), World::on_postgres(Options::default()).await]
        .into_iter()
        .flatten()
    {
        let good = world.define("good", "exit 0").await;
        let bad = world.define("bad", "exit 3").await;
        let long = world.define("long", "sleep 9").await;
        for _ in 0..3 {
            let run = world.launch(&good, json!({})).await;
            world.finish(&run).await;
        }
        let failed = world.launch(&bad, json!({})).await;
        world.finish(&failed).await;
        let running = world.launch(&long, json!({})).await;
        world.step_until(&running, |run| run["status"] == "RUNNING").await;
        let waiting = world.launch(&good, json!({"cluster": "idle"})).await;
        let page = world.page("/ui").await;
        page.has("4 runs ended in the last 24 hours: 3 succeeded, 1 failed").has("exited with code 3");
        for (number, word) in [(1, "running"), (1, "queued"), (0, "starting"), (1, "failed in 24 hours")] {
            let figure = page.between(&format!("<dt>{word}</dt>"), "</dd>")[0].to_owned();
            assert!(figure.ends_with(&format!(">{number}</a>")), "{word}: {figure}");
        }
        assert_eq!(page.between("<tr data-key=\"", "\""), [running.as_str(), failed.as_str()]);
        page.lacks(&format!("href=\"/ui/runs/{waiting}\""));

        // A day later it has left the bars of hours, and not those of days.
        world.advance(SignedDuration::from_hours(25));
        world.page("/ui").await.has("0 runs ended in the last 24 hours").has(&format!("href=\"/ui/runs/{failed}\""));
        world.page("/ui?range=fortnight").await.has("4 runs ended in the last 14 days");
    }
}

#[tokio::test]
async fn a_range_that_is_none_is_refused() {
    let world = World::on_sqlite(Options::default()).await;
    world.page("/ui?range=year").await.is(400).has("is none of day, fortnight");
}
