//! The news that open pages ask for.

use serde_json::{Value, json};

use crate::world::{Options, World};

async fn news(world: &World, query: &str) -> Value {
    world.get(&format!("/ui/changes?{query}")).await.ok()
}

/// Asks for what is newer than an answer, and waits for it.
async fn newer(world: &World, than: &Value, run_id: &str) -> Value {
    let log = &than["logs"][run_id];
    let known = match log {
        Value::Null => String::new(),
        log => format!("&log={run_id}:{}:{}:{}", log["lines"], log["bytes"], log["is_complete"]),
    };
    let server = than["server"].as_str().unwrap();
    news(world, &format!("server={server}&changes={}&wait=20{known}", than["changes"])).await
}

#[tokio::test]
async fn who_knows_less_is_answered_at_once_and_who_knows_all_when_something_changes() {
    let world = World::on_sqlite(Options::default()).await;
    let first = news(&world, "wait=20").await;
    assert_eq!((&first["now"], &first["logs"]), (&json!(1_767_225_600_000_u64), &json!({})));
    let page = world.page("/ui").await;
    page.has(&format!("data-version=\"{}\"", first["version"].as_str().unwrap()));
    let (second, _) = tokio::join!(newer(&world, &first, ""), world.run("exit 0"));
    assert!(second["changes"].as_u64() > first["changes"].as_u64(), "{first} {second}");
    // What was counted by a process that is gone says nothing, nor does an older count.
    assert_eq!(news(&world, &format!("wait=20&server=other&changes={}", second["changes"])).await, second);
    assert_eq!(newer(&world, &first, "").await, second);
    for query in ["wait=x", "changes=x", "log=a:b", "log=a:1:2:3", "nothing=1"] {
        world.page(&format!("/ui/changes?{query}")).await.is(400);
    }
    world.page(&format!("/ui/changes?{}", "log=a&".repeat(51))).await.is(400).has("at most 50");
}

#[tokio::test]
async fn the_growth_of_a_log_is_told_until_it_is_complete() {
    let world = World::on_sqlite(Options::default()).await;
    let run_id = world.run("echo one; sleep 100").await;
    world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
    let mut told = vec![news(&world, &format!("log={run_id}&log=nothing")).await];
    assert_eq!(told[0]["logs"]["nothing"], Value::Null);
    let follow = async {
        while told.last().unwrap()["logs"][&run_id]["is_complete"] != true {
            told.push(newer(&world, told.last().unwrap(), &run_id).await);
        }
    };
    let go_on = async {
        let attempt = World::attempt(&run_id, 1);
        world.script().print(attempt, "two\nthree");
        world.script().go_on(attempt);
        world.finish(&run_id).await;
        world.step_until_log_is_complete(&run_id).await;
    };
    tokio::join!(follow, go_on);
    let extents: Vec<_> = told.iter().map(|news| &news["logs"][&run_id]).collect();
    assert_eq!(**extents.last().unwrap(), json!({"lines": 3, "bytes": 13, "is_complete": true}));
    let bytes: Vec<_> = extents.iter().map(|extent| extent["bytes"].as_u64().unwrap()).collect();
    assert!(bytes.is_sorted(), "{bytes:?}");
}

#[tokio::test]
async fn each_answer_says_what_time_it_is_at_the_server() {
    let world = World::on_sqlite(Options::default()).await;
    for path in ["/api/v1/task", "/ui/tasks", "/health/live", "/api/nothing"] {
        assert_eq!(world.get(path).await.headers["x-server-time"], "2026-01-01T00:00:00.000Z", "{path}");
    }
}
