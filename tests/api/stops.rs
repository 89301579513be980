//! Stops between any two steps: while a launch is under way, around a crash, for a whole family, by clocks that differ.

use flotilla::model::{
    Basis, Change, Execution, Run, RunId, Situation, StartFault, StartLimits, StopCause, StopRequest, fail_start,
    requeue,
};
use futures_util::FutureExt;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::world::World;

/// Asks for a stop through the API.
async fn stop(world: &World, run_id: &str) -> Value {
    let id = world.history(run_id).await["definition_id"].as_str().unwrap().to_owned();
    world.delete(&format!("/api/v1/task/{id}/history/{run_id}")).await.ok()
}

async fn run_of(world: &World, run_id: &str) -> Run {
    world.store.run(run_id.parse().unwrap()).await.unwrap().unwrap()
}

/// A run that is seen running, and that names another as its parent.
async fn child_of(world: &World, parent: &str, command: &str) -> String {
    let alias = format!("alias-{}", flotilla::model::RunId::generate());
    let id = world.define(&alias, command).await;
    let run_id = world.launch(&id, json!({"env": [{"name": "PARENT_FLOTILLA_RUN_ID", "value": parent}]})).await;
    world.step_until(&run_id, |run| run["status"] != "QUEUED" && run["status"] != "PENDING").await;
    run_id
}

/// Stores that a run is to stop, as a server does that dies right after.
async fn store_stop(world: &World, run_id: &str) {
    let now = world.control.clock.now();
    let run = run_of(world, run_id).await;
    assert!(world.store.request_stop(&run, &StopRequest::new(StopCause::Request, now)).await.unwrap());
}

/// A claimed run with a stop, brought to a status in which earlier versions left it.
async fn left_with_stop(world: &World, change: impl FnOnce(&Run) -> Change) -> String {
    let run_id = world.run("exit 0").await;
    let now = world.control.clock.now();
    world.store.claim("default", &[run_id.parse().unwrap()], 10, "this-node", now).await.unwrap();
    store_stop(world, &run_id).await;
    let run = run_of(world, &run_id).await;
    let change = change(&run);
    assert!(world.store.apply(run.run_id, &change).await.unwrap());
    run_id
}

fn needs_retry(run: &Run) -> Change {
    let look = Situation { now: run.queued_at, since_claim: SignedDuration::ZERO, limits: &StartLimits::NONE };
    fail_start(run, "no room", StartFault::Machine, look)
}

crate::on_fake_engine! {
    async fn a_stop_that_comes_while_a_launch_fails_is_kept(world: World) {
        world.script().hold_launches(true);
        world.script().refuse_launches(Some(("no processes left", StartFault::Machine)));
        let run_id = world.run("exit 0").await;
        world.dispatch().await;
        world.script().until_launch_waits().await;
        let answer = stop(&world, &run_id).await;
        assert_eq!((&answer["status"], &answer["stopped"]), (&json!("PENDING"), &json!(true)));
        world.script().hold_launches(false);
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], &run["attempt_count"]), (&json!("stopped"), &json!(1)));
        assert_eq!(run["exit_reason"], "stopped on request before it started");
    }

    async fn a_stop_that_comes_while_a_launch_is_refused_is_kept(world: World) {
        world.script().hold_launches(true);
        world.script().refuse_launches(Some(("no such user", StartFault::Task)));
        let run_id = world.run("exit 0").await;
        world.dispatch().await;
        world.script().until_launch_waits().await;
        stop(&world, &run_id).await;
        world.script().hold_launches(false);
        assert_eq!(world.finish(&run_id).await["outcome"], "stopped");
    }

    async fn a_stop_that_comes_while_a_launch_succeeds_ends_the_run(world: World) {
        world.script().hold_launches(true);
        let run_id = world.run("sleep 100").await;
        world.dispatch().await;
        world.script().until_launch_waits().await;
        stop(&world, &run_id).await;
        world.script().hold_launches(false);
        assert_eq!(world.finish(&run_id).await["outcome"], "stopped");
    }

    async fn a_stop_between_a_claim_and_its_launch_starts_nothing(world: World) {
        let run_id = world.run("exit 0").await;
        let now = world.control.clock.now();
        world.store.claim("default", &[run_id.parse().unwrap()], 10, "this-node", now).await.unwrap();
        stop(&world, &run_id).await;
        assert_eq!(world.finish(&run_id).await["outcome"], "stopped");
        assert_eq!(world.script().times_started(World::attempt(&run_id, 1)), 0);
        assert_eq!(world.story(&run_id).await, ["Queued", "Dispatched", "StopRequested", "Stopped"]);
    }

    async fn what_an_earlier_version_left_waiting_with_a_stop_is_ended_after_a_restart(world: World) {
        let retrying = left_with_stop(&world, needs_retry).await;
        let queued = left_with_stop(&world, needs_retry).await;
        let run = run_of(&world, &queued).await;
        let change = requeue(&Run { stop: None, ..run.clone() }, run.queued_at).unwrap();
        assert!(world.store.apply(run.run_id, &Change { from: Basis::of(&run), ..change }).await.unwrap());
        let mut world = world;
        world.restart();
        world.advance(SignedDuration::from_secs(3600));
        world.dispatch().await;
        assert_eq!(world.global.retries.until_next(&world.control.clock), None, "nothing to be retried keeps the dispatcher busy");
        world.sweep().await;
        for run_id in [retrying, queued] {
            let run = world.finish(&run_id).await;
            assert_eq!((&run["status"], &run["outcome"]), (&json!("STOPPED"), &json!("stopped")));
        }
    }

    async fn what_waits_with_a_stop_is_ended_as_soon_as_stops_are_looked_at(world: World) {
        let run_id = left_with_stop(&world, needs_retry).await;
        world.watch_stops().await;
        assert_eq!(world.history(&run_id).await["outcome"], "stopped");
    }

    async fn a_family_is_stopped_though_the_server_died_when_its_first_stop_was_stored(world: World) {
        let parent = world.run("sleep 100").await;
        world.step_until(&parent, |run| run["status"] == "RUNNING").await;
        let ended = child_of(&world, &parent, "exit 0").await;
        let grandchild = child_of(&world, &ended, "sleep 100").await;
        let ended_again = child_of(&world, &grandchild, "exit 0").await;
        let deepest = child_of(&world, &ended_again, "sleep 100").await;
        world.finish(&ended).await;
        world.finish(&ended_again).await;
        store_stop(&world, &parent).await;
        let mut world = world;
        world.restart();
        world.sweep().await;
        for run_id in [parent, grandchild, deepest] {
            assert_eq!(world.finish(&run_id).await["outcome"], "stopped", "{run_id}");
        }
        assert_eq!(world.history(&ended).await["outcome"], "succeeded");
    }

    async fn a_stop_of_a_run_and_its_family_is_finished_though_the_server_died_at_its_first_step(world: World) {
        let parent = world.run("sleep 100").await;
        let child = child_of(&world, &parent, "sleep 100").await;
        world.step_until(&parent, |run| run["status"] == "RUNNING").await;
        let now = world.control.clock.now();
        world.store.request_family_stop(parent.parse().unwrap(), now).await.unwrap();
        let mut world = world;
        world.restart();
        world.sweep().await;
        let reasons = [world.finish(&parent).await, world.finish(&child).await].map(|run| run["exit_reason"].clone());
        assert_eq!(reasons, [json!("stopped on request"), json!("stopped because its parent was stopped")]);
    }

    async fn the_family_of_a_run_that_its_deadline_stops_is_stopped_when_somebody_asks(world: World) {
        let id = world.define("slow", "sleep 100").await;
        let parent = world.launch(&id, json!({"active_deadline_seconds": 60})).await;
        world.step_until(&parent, |run| run["status"] == "RUNNING").await;
        let child = child_of(&world, &parent, "sleep 100").await;
        world.script().swallow_stops(true);
        world.advance(SignedDuration::from_secs(60));
        world.step().await;
        world.sweep().await;
        assert!(run_of(&world, &child).await.stop.is_none(), "a deadline is the parent's own");
        // As far as a server comes that dies then.
        world.store.request_family_stop(parent.parse().unwrap(), world.control.clock.now()).await.unwrap();
        world.sweep().await;
        world.script().swallow_stops(false);
        assert_eq!(world.finish(&child).await["outcome"], "stopped");
        assert_eq!(world.finish(&parent).await["outcome"], "timed_out");
    }

    async fn a_family_that_is_a_circle_is_stopped(world: World) {
        let model = run_of(&world, &world.run("sleep 100").await).await;
        let ids = [RunId::generate(), RunId::generate(), RunId::generate()];
        for (i, run_id) in ids.into_iter().enumerate() {
            let execution = Execution { parent_run_id: Some(ids[(i + 1) % 3]), ..model.execution.clone() };
            world.store.insert_run(&Run { run_id, execution, ..model.clone() }).await.unwrap();
        }
        world.step().await;
        world.store.request_family_stop(ids[1], world.control.clock.now()).await.unwrap();
        world.sweep().await;
        for run_id in ids {
            assert_eq!(world.finish(&run_id.to_string()).await["outcome"], "stopped");
        }
        assert!(run_of(&world, &model.run_id.to_string()).await.stop.is_none(), "it is none of the family");
    }

    async fn a_childs_stop_is_no_stop_of_its_parent(world: World) {
        let parent = world.run("sleep 100").await;
        let child = child_of(&world, &parent, "sleep 100").await;
        stop(&world, &child).await;
        world.sweep().await;
        assert_eq!(world.finish(&child).await["outcome"], "stopped");
        assert!(run_of(&world, &parent).await.stop.is_none());
    }

    async fn a_child_of_an_ended_child_of_a_stopped_run_is_not_launched(world: World) {
        let parent = world.run("sleep 100").await;
        world.step_until(&parent, |run| run["status"] == "RUNNING").await;
        let child = child_of(&world, &parent, "exit 0").await;
        world.finish(&child).await;
        stop(&world, &parent).await;
        let id = world.define("late", "exit 0").await;
        let late = json!({"env": [{"name": "PARENT_FLOTILLA_RUN_ID", "value": child}]});
        let refused = world.put(&format!("/api/v4/task/{id}/execute"), late).await.refused(400);
        assert!(refused.contains(&parent) && refused.contains(&child), "{refused}");
    }

    async fn a_run_that_ended_by_itself_before_its_stop_was_carried_out_has_not_been_stopped(world: World) {
        for skew in [-3, 0, 3] {
            world.script().set_skew(SignedDuration::from_secs(skew));
            let run_id = world.run("sleep 1; exit 0").await;
            world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
            assert!(world.script().go_on(World::attempt(&run_id, 1)));
            stop(&world, &run_id).await;
            let run = world.finish(&run_id).await;
            assert_eq!((&run["outcome"], &run["exit_code"], &run["exit_reason"]), (&json!("succeeded"), &json!(0), &Value::Null));
        }
    }

    async fn a_run_that_ended_in_the_moment_it_was_to_be_stopped_has_not_been_stopped(world: World) {
        let run_id = world.run("sleep 1; exit 3").await;
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        stop(&world, &run_id).await;
        // The engine shows it running for the last time, and has nothing to stop any more.
        world.script().swallow_stops(true);
        world.step().await;
        assert_eq!(run_of(&world, &run_id).await.stop.unwrap().sent_at, None);
        assert!(world.script().go_on(World::attempt(&run_id, 1)));
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], &run["exit_reason"]), (&json!("failed"), &json!("exited with code 3")));
    }

    async fn an_engine_whose_clock_is_behind_or_ahead_stops_runs_for_the_reason_that_was_asked_for(world: World) {
        for skew in [-3, -3600, 3600] {
            world.script().set_skew(SignedDuration::from_secs(skew));
            let run_id = world.run("sleep 100").await;
            world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
            stop(&world, &run_id).await;
            let run = world.finish(&run_id).await;
            assert_eq!((&run["outcome"], &run["exit_reason"]), (&json!("stopped"), &json!("stopped on request")), "{skew}");

            let id = world.define(&format!("slow{skew}"), "sleep 100").await;
            let run_id = world.launch(&id, json!({"active_deadline_seconds": 60})).await;
            world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
            world.advance(SignedDuration::from_secs(59));
            world.step().await;
            assert!(run_of(&world, &run_id).await.stop.is_none(), "its deadline has not passed, {skew}");
            world.advance(SignedDuration::from_secs(1));
            assert_eq!(world.finish(&run_id).await["outcome"], "timed_out", "{skew}");
        }
    }

    async fn a_deadline_is_neither_passed_nor_put_off_by_setting_the_clock(world: World) {
        let id = world.define("slow", "sleep 100").await;
        let run_id = world.launch(&id, json!({"active_deadline_seconds": 60})).await;
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        for jump in ["2036-01-01T00:00:00Z", "1996-01-01T00:00:00Z"] {
            world.set_clock_to(jump);
            world.step().await;
            assert!(run_of(&world, &run_id).await.stop.is_none(), "{jump}");
        }
        world.advance(SignedDuration::from_secs(60));
        assert_eq!(world.finish(&run_id).await["outcome"], "timed_out");
    }

    async fn a_deadline_counts_on_over_a_restart(world: World) {
        let id = world.define("slow", "sleep 100").await;
        let run_id = world.launch(&id, json!({"active_deadline_seconds": 60})).await;
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        world.advance(SignedDuration::from_secs(50));
        let mut world = world;
        world.restart();
        world.step().await;
        assert!(run_of(&world, &run_id).await.stop.is_none());
        world.advance(SignedDuration::from_secs(10));
        assert_eq!(world.finish(&run_id).await["outcome"], "timed_out");
    }

    async fn an_engine_that_has_nothing_to_stop_and_shows_a_run_is_asked_again_after_a_pause(world: World) {
        let run_id = world.run("sleep 100").await;
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        world.script().swallow_stops(true);
        stop(&world, &run_id).await;
        let _ = world.control.reports.take().now_or_never();
        world.watch_stops().await;
        assert!(world.control.reports.take().now_or_never().is_none(), "the loop pokes itself at once");
        assert!(!world.control.reports.take().await.is_empty(), "and does so later");
        world.script().swallow_stops(false);
        assert_eq!(world.finish(&run_id).await["outcome"], "stopped");
    }

    async fn an_attempt_of_another_cluster_is_not_looked_at(world: World) {
        let id = world.define("elsewhere", "exit 0").await;
        let run_id = world.launch(&id, json!({"cluster": "idle"})).await;
        let now = world.control.clock.now();
        let run = world.store.claim("idle", &[run_id.parse().unwrap()], 10, "this-node", now).await.unwrap().remove(0);
        world.store.set_handle(run.attempt_id(), "its own").await.unwrap();
        world.control.watch_some([run.attempt_id()].into()).await.unwrap();
        assert_eq!(world.history(&run_id).await["status"], "PENDING");
    }
}
