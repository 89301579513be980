//! The loops: places, retries, crashes between any two steps, strays, deadlines.

use flotilla::engine::LaunchSpec;
use flotilla::model::{AttemptId, DefinitionId, QueueDepth, Run, StartFault, Status, StopCause, StopRequest};
use serde_json::{Value, json};

use crate::on_every_engine;
use crate::world::{Options, WAIT, World, each};

/// What the loops would tell the engine of an attempt.
pub fn spec(world: &World, run: &Run, attempt_id: AttemptId) -> LaunchSpec {
    LaunchSpec {
        origin: crate::support::origin(),
        attempt_id,
        task: run.task.clone(),
        execution: run.execution.clone(),
        log_path: world.control.logs.path(attempt_id),
        log_cap_bytes: 100,
        grace: std::time::Duration::ZERO,
        longest_start: None,
    }
}

/// Claims a run and does nothing about it, as a server that dies then.
pub async fn claim(world: &World, run_id: &str, node: &str) -> Run {
    let run_ids = [run_id.parse().unwrap()];
    world.store.claim("default", &run_ids, 10, node, world.control.clock.now()).await.unwrap().remove(0)
}

fn two_places() -> Options {
    Options { max_running: Some(2), ..Options::default() }
}

on_every_engine! {
    async fn what_the_engine_refuses_for_good_is_rejected_with_its_reason(world: World) {
        let run_id = world.run_refused().await;
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], &run["exit_code"], &run["started_at"]), (&json!("rejected"), &Value::Null, &Value::Null));
        assert!(run["exit_reason"].as_str().unwrap().contains("ghost"), "{run}");
        assert_eq!(world.story(&run_id).await, ["Queued", "Dispatched", "Rejected"]);
    }

    async fn a_server_that_dies_after_its_claim_launches_after_its_restart(world: World) {
        let run_id = world.run("echo once").await;
        claim(&world, &run_id, "this-node").await;
        assert_eq!(world.history(&run_id).await["status"], "PENDING");
        let mut world = world;
        world.restart();
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], &run["attempt_count"]), (&json!("succeeded"), &json!(1)));
        assert_eq!(world.log(&run_id).await, "once\n");
    }

    async fn a_server_that_dies_after_its_launch_adopts_it_after_its_restart(world: World) {
        let run_id = world.run(&format!("echo once; {WAIT}")).await;
        let run = claim(&world, &run_id, "this-node").await;
        world.control.engine.launch(&spec(&world, &run, run.attempt_id())).await.unwrap();
        let mut world = world;
        world.restart();
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        world.go_on(&run_id).await;
        assert_eq!(world.finish(&run_id).await["outcome"], "succeeded");
        assert_eq!(world.log(&run_id).await, "once\n");
    }

    async fn another_servers_claim_is_left_alone(world: World) {
        let run_id = world.run("exit 0").await;
        claim(&world, &run_id, "another-node").await;
        world.step().await;
        assert_eq!(world.history(&run_id).await["status"], "PENDING");
        assert!(world.is_engine_empty().await);
    }

    async fn what_vanished_from_the_engine_is_lost_and_says_so(world: World) {
        let run_id = world.run("echo one; sleep 100").await;
        world.step_until_printed(&run_id, "one\n").await;
        world.vanish(&run_id);
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], &run["exit_code"]), (&json!("lost"), &Value::Null));
        assert_ne!(run["exit_reason"], Value::Null);
        assert_eq!(world.log(&run_id).await, "one\n", "what was stored stays");
    }

    async fn a_run_is_ended_at_its_deadline(world: World) {
        let id = world.define("slow", "sleep 100").await;
        let run_id = world.launch(&id, json!({"active_deadline_seconds": 2})).await;
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        world.advance(jiff::SignedDuration::from_secs(2));
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], &run["exit_reason"]), (&json!("timed_out"), &json!("stopped because it passed its deadline of 2 s")));
    }

    async fn a_stray_is_removed_and_an_unknown_object_is_left_alone(world: World) {
        let run_id = world.run("exit 0").await;
        world.finish(&run_id).await;
        let run = world.store.run(run_id.parse().unwrap()).await.unwrap().unwrap();
        let launch = async |attempt_id| world.control.engine.launch(&spec(&world, &run, attempt_id)).await.unwrap();
        launch(run.attempt_id()).await;
        let unknown = launch(World::attempt("00000000-0000-7000-8000-000000000000", 1)).await;
        // An engine may take a while to end what it removes, and is then asked again.
        let left = world.stepping("the stray is removed", async || {
            world.sweep().await;
            let left = world.control.engine.list_ours().await.unwrap();
            assert!(left.contains(&unknown), "{left:?}");
            left.iter().all(|handle| handle.attempt_id != run.attempt_id()).then_some(left)
        }).await;
        assert_eq!(left, [unknown]);
    }

    async fn a_child_launched_while_its_parent_was_being_stopped_is_stopped_too(world: World) {
        let id = world.define("parent", "sleep 100").await;
        let parent = world.launch(&id, json!({})).await;
        let child = world.launch(&id, json!({"env": [{"name": "PARENT_FLOTILLA_RUN_ID", "value": parent}]})).await;
        world.step_until(&child, |run| run["status"] == "RUNNING").await;
        // As if the stop had been stored between the child's check and its own storing.
        let run = world.store.run(parent.parse().unwrap()).await.unwrap().unwrap();
        let stop = StopRequest::new(StopCause::Request, world.control.clock.now());
        assert!(world.store.request_stop(&run, &stop).await.unwrap());
        world.sweep().await;
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
        assert!(!world.store.apply(run.run_id, &change).await.unwrap());
        let now = world.store.run(run.run_id).await.unwrap().unwrap();
        assert_eq!((now.status, now.attempt_count), (Status::Pending, 1));
        assert_eq!(world.store.newest_events(run.run_id, 1000).await.unwrap().len(), 2, "no event of what did not happen");
    }

    async fn no_more_runs_start_than_a_cluster_has_places(world: World = two_places()) {
        let mut run_ids = Vec::new();
        for _ in 0..5 {
            run_ids.push(world.run(WAIT).await);
            world.advance(jiff::SignedDuration::from_millis(1));
        }
        let become_statuses = async |expected: [&str; 5]| {
            let statuses = async || {
                let list = world.get("/api/v1/history?order=asc").await.ok();
                (each(&list["history"], "status") == expected).then_some(())
            };
            world.stepping(&format!("the statuses are {expected:?}"), statuses).await;
        };
        become_statuses(["RUNNING", "RUNNING", "QUEUED", "QUEUED", "QUEUED"]).await;
        world.step().await;
        become_statuses(["RUNNING", "RUNNING", "QUEUED", "QUEUED", "QUEUED"]).await;
        world.go_on(&run_ids[0]).await;
        become_statuses(["STOPPED", "RUNNING", "RUNNING", "QUEUED", "QUEUED"]).await;
    }
}

mod scripted {
    use super::*;

    crate::on_fake_engine! {
        async fn the_newest_runs_of_many_tasks_are_found_at_once(world: World) {
            let ids = [world.define("first", "exit 0").await, world.define("second", "exit 0").await];
            let mut launched = Vec::new();
            for i in 0..6 {
                launched.push(world.launch(&ids[usize::from(i % 3 == 0)], json!({})).await);
                world.advance(jiff::SignedDuration::from_secs(1));
            }
            let asked = [&ids[0], &ids[1], "none-such"].map(DefinitionId::from_text);
            let found = world.store.newest_runs(&asked, 2).await.unwrap();
            let of = |id: &str| -> Vec<String> {
                found.iter().filter(|run| run.definition_id.as_str() == id).map(|run| run.run_id.to_string()).collect()
            };
            assert_eq!((of(&ids[0]), of(&ids[1])), (vec![launched[5].clone(), launched[4].clone()], vec![launched[3].clone(), launched[0].clone()]));
            assert_eq!(found.len(), 4);

            // A person types the beginning or the end of an id.
            let id = &launched[2];
            for part in [&id[..id.len() - 6], &id[id.len() - 8..]] {
                let found = world.store.runs_by_part_of_id(part, 4).await.unwrap();
                assert!(found.iter().any(|run| run.run_id.to_string() == *id), "{part}");
            }
            assert_eq!(world.store.owners(5).await.unwrap(), ["v1-unknown"]);
        }

        async fn how_many_waited_is_known_later(world: World = two_places()) {
            for _ in 0..5 {
                world.run(WAIT).await;
            }
            world.control.note_queue_depth().await.unwrap();
            world.step().await;
            // In the same five minutes fewer wait, and in the next ones as many as then.
            world.control.note_queue_depth().await.unwrap();
            world.advance(jiff::SignedDuration::from_mins(5));
            world.control.note_queue_depth().await.unwrap();
            let all = world.store.queue_depths(None, jiff::Timestamp::UNIX_EPOCH).await.unwrap();
            assert_eq!(all.iter().map(|depth| depth.waiting).collect::<Vec<_>>(), [5, 3]);
            let now = world.control.clock.now();
            world.store.note_queue_depth("other", QueueDepth::now(4, now)).await.unwrap();
            world.store.note_queue_depth("other", QueueDepth::now(2, now)).await.unwrap();
            for (cluster, expected) in [(None, vec![7]), (Some("default"), vec![3]), (Some("other"), vec![4]), (Some("none"), vec![])] {
                let depths = world.store.queue_depths(cluster, all[1].from).await.unwrap();
                assert_eq!(depths.iter().map(|depth| depth.waiting).collect::<Vec<_>>(), expected, "{cluster:?}");
            }
            // What no page looks back to any more is gone.
            world.pass(jiff::SignedDuration::from_hours(16 * 24)).await;
            world.control.note_queue_depth().await.unwrap();
            let left = world.store.queue_depths(None, jiff::Timestamp::UNIX_EPOCH).await.unwrap();
            assert_eq!(left.len(), 1, "{left:?}");
            let page = world.get("/ui").await;
            assert!(String::from_utf8_lossy(&page.bytes).contains("The most at once: 3."));
        }

        async fn an_attempt_that_could_not_start_is_retried_when_it_is_due(world: World) {
            world.script().refuse_launches(Some(("no processes left", StartFault::Machine)));
            let run_id = world.run("exit 0").await;
            world.step().await;
            let run = world.history(&run_id).await;
            assert_eq!((&run["status"], &run["attempt_count"], &run["exit_reason"]), (&json!("NEEDS_RETRY"), &json!(1), &json!("no processes left")));
            world.script().refuse_launches(None);
            world.step().await;
            assert_eq!(world.history(&run_id).await["status"], "NEEDS_RETRY", "it is not due yet");
            world.advance(jiff::SignedDuration::from_secs(1));
            let run = world.finish(&run_id).await;
            assert_eq!((&run["outcome"], &run["attempt_count"], &run["exit_reason"]), (&json!("succeeded"), &json!(2), &Value::Null));
            assert_eq!(each(&run["pod_events"], "reason"),
                       ["Queued", "Dispatched", "NeedsRetry", "Queued", "Dispatched", "Started", "Succeeded"]);
            assert_eq!(world.script().times_started(World::attempt(&run_id, 1)), 0);
        }

        async fn a_run_that_waits_for_its_retry_can_be_stopped(world: World) {
            world.script().refuse_launches(Some(("no processes left", StartFault::Machine)));
            let run_id = world.run("exit 0").await;
            world.step().await;
            let id = world.history(&run_id).await["definition_id"].as_str().unwrap().to_owned();
            let answer = world.delete(&format!("/api/v1/task/{id}/history/{run_id}")).await.ok();
            assert_eq!((&answer["status"], &answer["outcome"]), (&json!("STOPPED"), &json!("stopped")));
        }

        async fn the_output_is_pumped_on_after_a_restart_without_gap_or_repeat(world: World) {
            let run_id = world.run(&format!("echo one; {WAIT}; echo two")).await;
            world.step_until_printed(&run_id, "one\n").await;
            let mut world = world;
            world.restart();
            // Before the new loops look, for the old ones' pump lives on in this process and is to be done first.
            assert!(world.script().go_on(World::attempt(&run_id, 1)));
            world.finish(&run_id).await;
            assert_eq!(world.log(&run_id).await, "one\ntwo\n");
        }

        async fn an_engine_that_is_away_finishes_nothing(world: World) {
            let run_id = world.run("sleep 100").await;
            world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
            world.script().set_available(Some("the daemon is away"));
            world.advance(jiff::SignedDuration::from_hours(1));
            for _ in 0..3 {
                world.step().await;
                world.sweep().await;
            }
            assert_eq!(world.history(&run_id).await["status"], "RUNNING");
            world.script().set_available(None);
            world.go_on(&run_id).await;
            assert_eq!(world.finish(&run_id).await["outcome"], "succeeded");
        }

        async fn a_deadline_is_waited_for_to_the_second(world: World) {
            let id = world.define("slow", "sleep 100").await;
            let run_id = world.launch(&id, json!({"active_deadline_seconds": 60})).await;
            world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
            world.advance(jiff::SignedDuration::from_secs(59));
            let next = world.control.watch_all().await.unwrap();
            assert_eq!(next, Some(jiff::SignedDuration::from_secs(1)));
            assert_eq!(world.history(&run_id).await["status"], "RUNNING");
            world.advance(jiff::SignedDuration::from_secs(1));
            assert_eq!(world.finish(&run_id).await["outcome"], "timed_out");
        }
    }
}
