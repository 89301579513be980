//! Clocks that are wrong, or are set while the server runs: nothing grows old because of them.

use std::sync::Arc;
use std::time::Duration;

use flotilla::control::global::KeptTime;
use flotilla::model::QueueDepth;
use jiff::SignedDuration;
use serde_json::json;

use crate::world::{Options, World};

const FORTY_DAYS: SignedDuration = SignedDuration::from_hours(40 * 24);

fn thirty_days() -> Options {
    Options { log_retention: Some(Duration::from_hours(30 * 24)), ..Options::default() }
}

fn age(world: &World) -> KeptTime {
    KeptTime::new(Arc::clone(&world.store), world.control.clock.clone())
}

crate::on_fake_engine! {
    async fn a_server_whose_clock_is_forty_days_ahead_removes_no_log_and_forgets_no_key(world: World = thirty_days()) {
        let key = json!({"idempotence_key": "order-1"});
        let definition_id = world.define("ordered", "echo kept").await;
        let run_id = world.launch(&definition_id, key.clone()).await;
        world.finish(&run_id).await;
        let mut before = age(&world);
        before.keep_time().await.unwrap();

        for restart in 0..20 {
            world.set_clock(if restart % 2 == 0 { FORTY_DAYS } else { -FORTY_DAYS });
            // A new process each time, which starts with a look at the clock.
            let mut after_restart = age(&world);
            after_restart.keep_time().await.unwrap();
            assert_eq!(world.global.prune_logs().await.unwrap(), 0);
            assert_eq!(world.launch(&definition_id, key.clone()).await, run_id);
        }
        world.set_clock(FORTY_DAYS);
        // Time passes, an hour at a time, while the clock stays wrong: at most four times as much is believed.
        let mut going_on = age(&world);
        for _ in 0..24 * 7 {
            world.advance(SignedDuration::from_hours(1));
            going_on.keep_time().await.unwrap();
        }
        assert_eq!(world.global.prune_logs().await.unwrap(), 0, "7 days have passed, and 28 are believed");
        assert_eq!(world.log(&run_id).await, "kept\n");
        for _ in 0..24 * 24 {
            world.advance(SignedDuration::from_hours(1));
            going_on.keep_time().await.unwrap();
        }
        assert_eq!(world.global.prune_logs().await.unwrap(), 5, "now they are old by any clock");
    }

    async fn a_process_that_was_frozen_removes_only_what_is_old_by_the_time_that_passed(world: World = thirty_days()) {
        let run_id = world.run("echo kept").await;
        world.finish(&run_id).await;
        let mut frozen = age(&world);
        frozen.keep_time().await.unwrap();
        world.advance(SignedDuration::from_hours(29 * 24));
        frozen.keep_time().await.unwrap();
        assert_eq!(world.global.prune_logs().await.unwrap(), 0);
        world.advance(SignedDuration::from_hours(2 * 24));
        frozen.keep_time().await.unwrap();
        assert_eq!(world.global.prune_logs().await.unwrap(), 5);
    }

    async fn a_clock_that_is_set_back_makes_nothing_old(world: World = thirty_days()) {
        let run_id = world.run("echo kept").await;
        world.finish(&run_id).await;
        world.pass(FORTY_DAYS).await;
        world.set_clock(-FORTY_DAYS);
        age(&world).keep_time().await.unwrap();
        assert_eq!(world.global.prune_logs().await.unwrap(), 0, "the earlier of both counts");
    }

    async fn a_key_that_was_given_after_a_start_with_a_wrong_clock_holds(world: World = thirty_days()) {
        world.set_clock(FORTY_DAYS);
        age(&world).keep_time().await.unwrap();
        world.set_clock(-FORTY_DAYS);
        let definition_id = world.define("ordered", "echo kept").await;
        let key = json!({"idempotence_key": "order-1"});
        let run_id = world.launch(&definition_id, key.clone()).await;
        for _ in 0..3 {
            assert_eq!(world.launch(&definition_id, key.clone()).await, run_id);
        }
    }

    async fn a_log_is_kept_from_when_it_was_complete_whatever_the_engines_clock_says(world: World = thirty_days()) {
        age(&world).keep_time().await.unwrap();
        world.script().set_skew(-FORTY_DAYS);
        let run_id = world.run("echo kept").await;
        world.finish(&run_id).await;
        assert_eq!(world.global.prune_logs().await.unwrap(), 0, "it has just ended");
        world.pass(SignedDuration::from_hours(31 * 24)).await;
        assert_eq!(world.global.prune_logs().await.unwrap(), 5);
    }

    async fn how_many_waited_is_not_forgotten_because_of_a_clock_that_jumps(world: World) {
        age(&world).keep_time().await.unwrap();
        let now = world.control.clock.now();
        world.store.note_queue_depth("default", QueueDepth::now(4, now)).await.unwrap();
        world.set_clock(FORTY_DAYS);
        age(&world).keep_time().await.unwrap();
        world.store.note_queue_depth("default", QueueDepth::now(5, world.control.clock.now())).await.unwrap();
        assert_eq!(world.store.queue_depths(None, jiff::Timestamp::UNIX_EPOCH).await.unwrap().len(), 2);
    }
}
