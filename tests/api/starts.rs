//! What does not start is given up at a bound, and only once nothing of it can run any more.

use flotilla::model::{RetryLimit, StartFault, StartLimits};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::loops::{claim, spec};
use crate::world::{Options, World};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn with(starts: StartLimits) -> Options {
    Options { starts, ..Options::default() }
}

fn an_hour() -> Options {
    with(StartLimits { longest: Some(HOUR), ..StartLimits::NONE })
}

fn three_attempts() -> Options {
    let three = RetryLimit { attempts: Some(3), time: None };
    with(StartLimits { image: three, machine: three, displaced: three, longest: None })
}

fn ten_minutes() -> Options {
    let limit = RetryLimit { attempts: None, time: Some(SignedDuration::from_mins(10)) };
    with(StartLimits { image: limit, machine: limit, displaced: limit, longest: None })
}

/// Lets time pass until the run has stopped, and says how much that took.
async fn wait_for_end(world: &World, run_id: &str) -> (Value, SignedDuration) {
    let begun = world.control.clock.elapsed();
    for _ in 0..1000 {
        world.step().await;
        if world.history(run_id).await["status"] == "STOPPED" {
            return (world.finish(run_id).await, world.control.clock.elapsed() - begun);
        }
        world.advance(SignedDuration::from_secs(5));
    }
    panic!("it is tried without end: {:#}", world.history(run_id).await);
}

const RETRIED: [StartFault; 3] = [StartFault::Image, StartFault::Machine, StartFault::Displaced];

crate::on_fake_engine! {
    async fn starts_that_fail_are_given_up_after_so_many_attempts(world: World = three_attempts()) {
        for fault in RETRIED {
            world.script().refuse_launches(Some(("connection refused", fault)));
            let run_id = world.run("exit 0").await;
            let (run, _) = wait_for_end(&world, &run_id).await;
            assert_eq!((&run["outcome"], &run["attempt_count"], &run["started_at"]), (&json!("rejected"), &json!(3), &Value::Null));
            let reason = run["exit_reason"].as_str().unwrap();
            assert!(reason.starts_with("connection refused; given up after 3 attempts in "), "{reason}");
            assert_eq!(world.story(&run_id).await.last().unwrap(), "Rejected");
            assert!(world.is_engine_empty().await);
        }
    }

    async fn starts_that_fail_are_given_up_after_so_long(world: World = ten_minutes()) {
        for fault in RETRIED {
            world.script().refuse_launches(Some(("connection refused", fault)));
            let run_id = world.run("exit 0").await;
            let (run, took) = wait_for_end(&world, &run_id).await;
            assert_eq!(run["outcome"], "rejected");
            assert!((8..=11).contains(&took.as_mins()), "{took}");
        }
    }

    async fn another_fault_has_a_bound_of_its_own(world: World = three_attempts()) {
        let run_id = world.run("exit 0").await;
        for i in 0..4 {
            let fault = if i % 2 == 0 { StartFault::Image } else { StartFault::Machine };
            world.script().refuse_launches(Some(("not now", fault)));
            world.advance(SignedDuration::from_secs(60));
            world.step().await;
        }
        assert_eq!(world.history(&run_id).await["status"], "NEEDS_RETRY");
        world.script().refuse_launches(None);
        world.advance(SignedDuration::from_secs(60));
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], &run["attempt_count"]), (&json!("succeeded"), &json!(5)));
    }

    async fn a_retry_is_neither_hurried_nor_put_off_by_setting_the_clock(world: World = three_attempts()) {
        for jump in ["2036-01-01T00:00:00Z", "1996-01-01T00:00:00Z"] {
            world.script().refuse_launches(Some(("not now", StartFault::Machine)));
            let run_id = world.run("exit 0").await;
            world.step().await;
            world.script().refuse_launches(None);
            world.set_clock_to(jump);
            world.step().await;
            assert_eq!(world.history(&run_id).await["status"], "NEEDS_RETRY", "{jump}");
            world.advance(SignedDuration::from_secs(1));
            assert_eq!(world.finish(&run_id).await["outcome"], "succeeded", "{jump}");
        }
    }

    async fn a_retry_that_was_put_off_by_a_wrong_clock_comes_after_a_restart(world: World = three_attempts()) {
        world.set_clock_to("2036-01-01T00:00:00Z");
        world.script().refuse_launches(Some(("not now", StartFault::Machine)));
        let run_id = world.run("exit 0").await;
        world.step().await;
        world.script().refuse_launches(None);
        world.set_clock_to("2026-01-01T00:00:00Z");
        let mut world = world;
        world.restart();
        world.step().await;
        world.advance(SignedDuration::from_secs(60));
        assert_eq!(world.finish(&run_id).await["outcome"], "succeeded");
    }

    async fn a_launch_that_is_put_off_without_end_is_given_up(world: World = an_hour()) {
        world.script().delay_launches("the account lacks a right");
        let run_id = world.run("exit 0").await;
        world.step().await;
        world.advance(HOUR - SignedDuration::from_secs(1));
        world.step().await;
        assert_eq!(world.history(&run_id).await["status"], "PENDING");
        world.advance(SignedDuration::from_secs(1));
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], &run["started_at"]), (&json!("rejected"), &Value::Null));
        let reason = run["exit_reason"].as_str().unwrap();
        assert!(reason.starts_with("it did not start within 1h: ") && reason.contains("the account lacks a right"), "{reason}");
        assert_eq!(world.script().times_started(World::attempt(&run_id, 1)), 0);
    }

    async fn a_launch_that_the_engine_can_not_do_is_not_repeated_without_a_pause(world: World) {
        world.script().delay_launches("the account lacks a right");
        let run_id = world.run("exit 0").await;
        let attempt_id = World::attempt(&run_id, 1);
        for _ in 0..10 {
            world.step().await;
        }
        assert_eq!(world.script().launches_of(attempt_id), 1);
        // It is poked about when the pause is over.
        while world.script().launches_of(attempt_id) < 2 {
            let poked = world.control.reports.take().await;
            world.control.watch_some(poked).await.unwrap();
            world.control.until_work_is_done().await;
        }
        world.script().refuse_launches(None);
        assert_eq!(world.finish(&run_id).await["outcome"], "succeeded");
    }

    async fn a_launch_that_may_have_happened_is_not_given_up_while_the_engine_is_away(world: World = an_hour()) {
        world.script().hold_starts(true);
        let run_id = world.run("sleep 100").await;
        // It happened, and nobody heard of it.
        let run = claim(&world, &run_id, "this-node").await;
        world.control.engine.launch(&spec(&world, &run, run.attempt_id())).await.unwrap();
        world.script().set_available(Some("the daemon is away"));
        for _ in 0..3 {
            world.advance(HOUR);
            world.step().await;
            world.sweep().await;
        }
        assert_eq!(world.history(&run_id).await["status"], "PENDING");
        world.script().set_available(None);
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], &run["started_at"]), (&json!("rejected"), &Value::Null));
        assert!(world.is_engine_empty().await);
    }

    async fn an_attempt_that_stays_starting_is_ended_and_then_rejected(world: World = an_hour()) {
        world.script().hold_starts(true);
        let run_id = world.run("sleep 100").await;
        world.step().await;
        let id = World::attempt(&run_id, 1);
        let note = flotilla::model::Event::warning(world.control.clock.now(), "FailedScheduling", "0/3 nodes are available");
        world.control.reports.note(id, note);
        world.step().await;
        for jump in ["2036-01-01T00:00:00Z", "1996-01-01T00:00:00Z"] {
            world.set_clock_to(jump);
            world.step().await;
            assert_eq!(world.history(&run_id).await["status"], "PENDING", "{jump}");
        }
        world.advance(HOUR);
        // It is not called over before the engine has let go of it.
        world.script().swallow_stops(true);
        world.step().await;
        world.step().await;
        assert_eq!(world.history(&run_id).await["status"], "PENDING");
        world.script().swallow_stops(false);
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], &run["exit_code"], &run["started_at"]), (&json!("rejected"), &Value::Null, &Value::Null));
        assert_eq!(run["exit_reason"], "it did not start within 1h: 0/3 nodes are available");
        assert_eq!(run["attempt_count"], 1);
        assert!(world.is_engine_empty().await);
    }

    async fn an_attempt_that_starts_while_it_is_given_up_is_ended_and_says_so(world: World = an_hour()) {
        world.script().hold_starts(true);
        let run_id = world.run("sleep 100").await;
        world.step().await;
        world.script().swallow_stops(true);
        world.advance(HOUR);
        world.step().await;
        world.script().hold_starts(false);
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        world.script().swallow_stops(false);
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], &run["exit_code"]), (&json!("timed_out"), &json!(143)));
        assert!(run["exit_reason"].as_str().unwrap().starts_with("it did not start within 1h"), "{run}");
    }

    async fn an_attempt_that_starts_in_time_may_run_for_as_long_as_it_likes(world: World = an_hour()) {
        let run_id = world.run("sleep 100").await;
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        world.advance(HOUR * 100);
        world.step().await;
        assert_eq!(world.history(&run_id).await["status"], "RUNNING");
        world.go_on(&run_id).await;
        assert_eq!(world.finish(&run_id).await["outcome"], "succeeded");
    }
}
