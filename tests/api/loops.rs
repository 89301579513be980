//! The loops: places, retries, crashes between any two steps, strays, deadlines.

use std::sync::Arc;

use flotilla::control::{Control, State};
use flotilla::engine::Engine;
use flotilla::model::{Status, StopCause};
use serde_json::{Value, json};

use crate::on_both_databases;
use crate::world::{Options, World, each};

/// The loops of a server that was restarted: the same database, engine and identity, and nothing remembered.
fn restarted(world: &World) -> Arc<Control> {
    let old = &world.control;
    Arc::new(Control {
        store: Arc::clone(&old.store),
        logs: Arc::clone(&old.logs),
        wake: old.wake.clone(),
        clock: old.clock.clone(),
        settings: old.settings.clone(),
        node: old.node.clone(),
        cluster: old.cluster.clone(),
        engine: Arc::clone(&old.engine),
        pokes: old.pokes.clone(),
        max_running: old.max_running,
        state: State::default(),
    })
}

on_both_databases! {
    async fn an_attempt_that_could_not_start_is_retried_when_it_is_due(world: World) {
        world.engine.refuse_launches(Some(("no processes left", true)));
        let run_id = world.run("exit 0").await;
        world.step().await;
        let run = world.history(&run_id).await;
        assert_eq!((&run["status"], &run["attempt_count"], &run["exit_reason"]), (&json!("NEEDS_RETRY"), &json!(1), &json!("no processes left")));
        world.engine.refuse_launches(None);
        world.step().await;
        assert_eq!(world.history(&run_id).await["status"], "NEEDS_RETRY", "it is not due yet");
        world.clock.advance(jiff::SignedDuration::from_secs(1));
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], &run["attempt_count"], &run["exit_reason"]), (&json!("succeeded"), &json!(2), &Value::Null));
        assert_eq!(each(&run["pod_events"], "reason"),
                   ["Queued", "Dispatched", "NeedsRetry", "Queued", "Dispatched", "Started", "Succeeded"]);
        assert_eq!(world.engine.times_started(World::attempt(&run_id, 1)), 0);
    }

    async fn a_run_that_waits_for_its_retry_can_be_stopped(world: World) {
        world.engine.refuse_launches(Some(("no processes left", true)));
        let run_id = world.run("exit 0").await;
        world.step().await;
        let id = world.history(&run_id).await["definition_id"].as_str().unwrap().to_owned();
        let answer = world.delete(&format!("/api/v1/task/{id}/history/{run_id}")).await.ok();
        assert_eq!((&answer["status"], &answer["outcome"]), (&json!("STOPPED"), &json!("stopped")));
    }

    async fn what_the_engine_refuses_for_good_is_rejected_with_its_reason(world: World) {
        world.engine.refuse_launches(Some(("no such shell: zsh", false)));
        let run_id = world.run("exit 0").await;
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], &run["exit_code"], &run["exit_reason"]), (&json!("rejected"), &Value::Null, &json!("no such shell: zsh")));
        assert_eq!(run["started_at"], Value::Null);
    }

    async fn a_server_that_dies_after_its_claim_launches_after_its_restart(world: World) {
        let run_id = world.run("exit 0").await;
        let run_ids = [run_id.parse().unwrap()];
        let claimed = world.store.claim("default", &run_ids, 10, "this-node", world.control.clock.now()).await.unwrap();
        assert_eq!(claimed.len(), 1);
        assert_eq!(world.history(&run_id).await["status"], "PENDING");
        let control = restarted(&world);
        for _ in 0..5 {
            control.watch_all().await.unwrap();
        }
        assert_eq!(world.history(&run_id).await["outcome"], "succeeded");
        assert_eq!(world.engine.times_started(World::attempt(&run_id, 1)), 1);
    }

    async fn a_server_that_dies_after_its_launch_adopts_it_after_its_restart(world: World) {
        let run_id = world.run("sleep 100").await;
        let run_ids = [run_id.parse().unwrap()];
        let run = world.store.claim("default", &run_ids, 10, "this-node", world.control.clock.now()).await.unwrap().remove(0);
        let spec = flotilla::engine::LaunchSpec {
            origin: crate::support::origin(),
            attempt_id: run.attempt_id(),
            task: run.task.clone(),
            execution: run.execution.clone(),
            log_path: world.control.logs.path(run.attempt_id()),
            log_cap_bytes: 100,
            grace: std::time::Duration::ZERO,
        };
        world.engine.launch(&spec).await.unwrap();
        let control = restarted(&world);
        for _ in 0..3 {
            control.watch_all().await.unwrap();
        }
        assert_eq!(world.history(&run_id).await["status"], "RUNNING");
        assert_eq!(world.engine.times_started(run.attempt_id()), 1);
    }

    async fn another_servers_claim_is_left_alone(world: World) {
        let run_id = world.run("exit 0").await;
        world.store.claim("default", &[run_id.parse().unwrap()], 10, "another-node", world.control.clock.now()).await.unwrap();
        world.step().await;
        assert_eq!(world.history(&run_id).await["status"], "PENDING");
        assert_eq!(world.engine.times_started(World::attempt(&run_id, 1)), 0);
    }

    async fn the_output_is_pumped_on_after_a_restart_without_gap_or_repeat(world: World) {
        let run_id = world.run("echo one; sleep 100").await;
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        let path = format!("/api/v1/{run_id}/logs");
        while world.get(&path).await.ok()["log"] != "one\n" {
            world.step().await;
        }
        let control = restarted(&world);
        world.engine.print(World::attempt(&run_id, 1), "two\n");
        world.engine.finish(World::attempt(&run_id, 1), 0);
        while world.history(&run_id).await["status"] != "STOPPED" || !world.engine.list_ours().await.unwrap().is_empty() {
            control.watch_all().await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(world.get(&path).await.ok()["log"], "one\ntwo\n");
    }

    async fn what_vanished_from_the_engine_is_lost_and_says_so(world: World) {
        let run_id = world.run("echo one; sleep 100").await;
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        world.engine.vanish(World::attempt(&run_id, 1));
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], &run["exit_code"]), (&json!("lost"), &Value::Null));
        assert!(run["exit_reason"].as_str().unwrap().contains("is known here"), "{}", run["exit_reason"]);
    }

    async fn an_engine_that_is_away_finishes_nothing(world: World) {
        let run_id = world.run("sleep 100").await;
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        world.engine.set_available(Some("the daemon is away"));
        world.clock.advance(jiff::SignedDuration::from_hours(1));
        for _ in 0..3 {
            world.step().await;
            world.control.sweep().await.unwrap();
        }
        assert_eq!(world.history(&run_id).await["status"], "RUNNING");
        world.engine.set_available(None);
        world.engine.finish(World::attempt(&run_id, 1), 0);
        assert_eq!(world.finish(&run_id).await["outcome"], "succeeded");
    }

    async fn a_run_is_ended_at_its_deadline(world: World) {
        let id = world.define("slow", "sleep 100").await;
        let run_id = world.launch(&id, json!({"active_deadline_seconds": 60})).await;
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        world.clock.advance(jiff::SignedDuration::from_secs(59));
        let next = world.control.watch_all().await.unwrap();
        assert_eq!(next, Some("2026-01-01T00:01:00Z".parse().unwrap()));
        assert_eq!(world.history(&run_id).await["status"], "RUNNING");
        world.clock.advance(jiff::SignedDuration::from_secs(1));
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], &run["exit_reason"]), (&json!("timed_out"), &json!("stopped because it passed its deadline of 60 s")));
    }

    async fn a_stray_is_removed_and_an_unknown_object_is_left_alone(world: World) {
        let run_id = world.run("exit 0").await;
        world.finish(&run_id).await;
        let run = world.store.run(run_id.parse().unwrap()).await.unwrap().unwrap();
        let launch = async |attempt_id| {
            let spec = flotilla::engine::LaunchSpec {
                origin: crate::support::origin(),
                attempt_id,
                task: run.task.clone(),
                execution: run.execution.clone(),
                log_path: world.control.logs.path(attempt_id),
                log_cap_bytes: 100,
                grace: std::time::Duration::ZERO,
            };
            world.engine.launch(&spec).await.unwrap()
        };
        launch(run.attempt_id()).await;
        let unknown = launch(World::attempt("00000000-0000-7000-8000-000000000000", 1)).await;
        world.control.sweep().await.unwrap();
        assert_eq!(world.engine.list_ours().await.unwrap(), [unknown]);
    }

    async fn a_child_launched_while_its_parent_was_being_stopped_is_stopped_too(world: World) {
        let id = world.define("parent", "sleep 100").await;
        let parent = world.launch(&id, json!({})).await;
        let child = world.launch(&id, json!({"env": [{"name": "PARENT_FLOTILLA_RUN_ID", "value": parent}]})).await;
        world.step_until(&child, |run| run["status"] == "RUNNING").await;
        // As if the stop had been stored between the child's check and its own storing.
        world.store.request_stop(parent.parse().unwrap(), StopCause::Request, world.control.clock.now()).await.unwrap();
        world.control.sweep().await.unwrap();
        assert_eq!(world.finish(&child).await["outcome"], "stopped");
    }

    async fn of_two_servers_that_claim_at_the_same_time_one_gets_each_run(world: World) {
        let mut run_ids = Vec::new();
        for _ in 0..4 {
            run_ids.push(world.run("exit 0").await.parse().unwrap());
        }
        let now = world.control.clock.now();
        let claims = futures_util::future::join_all(
            ["a", "b", "c"].map(|node| world.store.claim("default", &run_ids, 100, node, now))).await;
        let claimed: Vec<_> = claims.into_iter().flat_map(Result::unwrap).map(|run| run.run_id).collect();
        assert_eq!(claimed.len(), 4, "{claimed:?}");
    }

    async fn two_servers_together_never_exceed_a_clusters_places(world: World) {
        let mut run_ids = Vec::new();
        for _ in 0..6 {
            run_ids.push(world.run("exit 0").await.parse().unwrap());
        }
        let now = world.control.clock.now();
        let claims = futures_util::future::join_all([
            world.store.claim("default", &run_ids[..2], 3, "a", now),
            world.store.claim("default", &run_ids[2..4], 3, "b", now),
            world.store.claim("default", &run_ids[4..], 3, "c", now),
        ]).await;
        let claimed: usize = claims.into_iter().map(|claim| claim.unwrap().len()).sum();
        assert_eq!(claimed, 2, "two fit, and then two more would be four");
    }

    async fn a_stale_decision_changes_nothing(world: World) {
        let run_id = world.run("exit 0").await;
        let run = world.store.run(run_id.parse().unwrap()).await.unwrap().unwrap();
        let change = flotilla::model::refuse(&run, "late", world.control.clock.now());
        world.store.claim("default", &[run.run_id], 10, "this-node", world.control.clock.now()).await.unwrap();
        assert!(!world.store.apply(run.run_id, 0, &change).await.unwrap());
        let now = world.store.run(run.run_id).await.unwrap().unwrap();
        assert_eq!((now.status, now.attempt_count), (Status::Pending, 1));
        assert_eq!(world.store.list_events(run.run_id).await.unwrap().len(), 2, "no event of what did not happen");
    }
}

#[tokio::test]
async fn no_more_runs_start_than_a_cluster_has_places() {
    let world = World::on_sqlite_with(Options { max_running: Some(2), ..Options::default() }).await;
    let mut run_ids = Vec::new();
    for _ in 0..5 {
        run_ids.push(world.run("sleep 100").await);
        world.clock.advance(jiff::SignedDuration::from_millis(1));
    }
    for _ in 0..3 {
        world.step().await;
    }
    let statuses = async || {
        let list = world.get("/api/v1/history?order=asc").await.ok();
        each(&list["history"], "status")
    };
    assert_eq!(statuses().await, ["RUNNING", "RUNNING", "QUEUED", "QUEUED", "QUEUED"]);
    world.engine.finish(World::attempt(&run_ids[0], 1), 0);
    for _ in 0..5 {
        world.step().await;
    }
    assert_eq!(statuses().await, ["STOPPED", "RUNNING", "RUNNING", "QUEUED", "QUEUED"]);
}
