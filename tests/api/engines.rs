//! Engines that are replaced: another one in the same place says nothing about the runs of the one before.

use serde_json::json;

use crate::world::{WAIT, World, each};

/// Two looks of every loop.
async fn look(world: &World) {
    for _ in 0..2 {
        world.step().await;
        world.sweep().await;
    }
}

crate::on_fake_engine! {
    async fn an_engine_that_was_replaced_makes_no_run_lost_and_starts_none_again(world: World) {
        let running = world.run(&format!("echo one; {WAIT}; exit 3")).await;
        world.step_until(&running, |run| run["status"] == "RUNNING").await;
        world.script().replace("another");
        let new = world.run("exit 0").await;
        look(&world).await;
        let run = world.history(&running).await;
        assert_eq!((&run["status"], &run["attempt_count"]), (&json!("RUNNING"), &json!(1)));
        let why = run["waiting_reason"].as_str().unwrap();
        assert!(why.contains("another engine (another)") && why.contains("(fake)"), "{why}");
        let told = each(&run["pod_events"], "reason").into_iter().filter(|reason| reason == "NotSeen").count();
        assert_eq!(told, 1, "{run}");
        assert_eq!(world.finish(&new).await["outcome"], "succeeded", "what is launched from now on runs on the new one");

        let mut world = world;
        world.restart();
        look(&world).await;
        let run = world.history(&running).await;
        let told = each(&run["pod_events"], "reason").into_iter().filter(|reason| reason == "NotSeen").count();
        assert_eq!((&run["status"], told), (&json!("RUNNING"), 1), "a restart says it no second time");

        world.script().replace("fake");
        world.go_on(&running).await;
        let run = world.finish(&running).await;
        assert_eq!((&run["exit_code"], &run["attempt_count"]), (&json!(3), &json!(1)));
        assert_eq!(world.log(&running).await, "one\n");
    }

    async fn an_engine_that_is_replaced_between_two_questions_concludes_nothing(world: World) {
        let running = world.run("sleep 100").await;
        world.step_until(&running, |run| run["status"] == "RUNNING").await;
        // What it calls itself is remembered from before.
        world.script().replace_unnoticed("another");
        look(&world).await;
        assert_eq!(world.history(&running).await["status"], "RUNNING");
    }

    async fn what_was_claimed_for_one_engine_is_not_launched_on_another(world: World) {
        let run_id = world.run("exit 0").await;
        let run_ids = [run_id.parse().unwrap()];
        let id = flotilla::model::EngineId::from_text("fake");
        let claimant = flotilla::store::Claimant { server_id: "this-node", engine_id: Some(&id), endpoint: None };
        world.store.claim("default", &run_ids, 10, claimant, world.control.clock.now()).await.unwrap();
        world.script().replace("another");
        look(&world).await;
        assert_eq!(world.history(&run_id).await["status"], "PENDING");
        assert!(world.is_engine_empty().await);
    }

    async fn a_stop_of_a_run_on_a_replaced_engine_is_kept_until_that_is_back(world: World) {
        let run_id = world.run("sleep 100").await;
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        world.script().replace("another");
        let id = world.history(&run_id).await["definition_id"].as_str().unwrap().to_owned();
        world.delete(&format!("/api/v1/task/{id}/history/{run_id}")).await.ok();
        look(&world).await;
        assert_eq!(world.history(&run_id).await["status"], "RUNNING");
        world.script().replace("fake");
        assert_eq!(world.finish(&run_id).await["outcome"], "stopped");
    }

    async fn what_ended_on_a_replaced_engine_is_not_called_removed(world: World) {
        let run_id = world.run("exit 0").await;
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        let run = world.store.run(run_id.parse().unwrap()).await.unwrap().unwrap();
        world.put(&format!("/api/v1/{run_id}/status"), json!({"status": "STOPPED", "exit_code": 0})).await.ok();
        world.script().replace("another");
        look(&world).await;
        let place = world.store.attempt_place(run.attempt_id()).await.unwrap().unwrap();
        assert!(!place.is_cleaned);
        world.script().replace("fake");
        world.finish(&run_id).await;
        assert!(world.is_engine_empty().await);
    }

    async fn an_operator_says_that_an_engine_is_gone(world: World) {
        let run_id = world.run("sleep 100").await;
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        world.script().replace("another");
        look(&world).await;
        let adopted = world.post("/api/v6/clusters/default/adopt", json!({})).await.ok();
        assert_eq!(adopted, json!({"id": "default", "adopted": 1}));
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], &run["attempt_count"]), (&json!("lost"), &json!(1)));
        assert!(world.story(&run_id).await.contains(&"Adopted".to_owned()));
        assert_eq!(world.post("/api/v6/clusters/default/adopt", json!({})).await.ok()["adopted"], 0);
        world.post("/api/v6/clusters/nowhere/adopt", json!({})).await.refused(404);
    }

    async fn an_operator_says_that_a_servers_data_directory_is_gone(world: World) {
        let run_id = world.run("sleep 100").await;
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        world.store.take_over_attempts("default", "another-node").await.unwrap();
        world.step().await;
        let told = world.history(&run_id).await["pod_events"].to_string();
        assert!(told.contains("flotilla adopt default"), "{told}");
        world.vanish(&run_id);
        world.step().await;
        assert_eq!(world.history(&run_id).await["status"], "RUNNING", "only the other server can say how it is");
        let adopted = world.post("/api/v6/clusters/default/adopt", json!({})).await.ok();
        assert_eq!(adopted, json!({"id": "default", "adopted": 1}));
        assert_eq!(world.finish(&run_id).await["outcome"], "lost");
    }

    async fn attempts_from_before_belong_to_the_first_engine_that_is_seen(world: World) {
        let run_id = world.run("exit 0").await;
        let run_ids = [run_id.parse().unwrap()];
        let claimant = flotilla::store::Claimant { server_id: "this-node", engine_id: None, endpoint: None };
        let run = world.store.claim("default", &run_ids, 10, claimant, world.control.clock.now()).await.unwrap().remove(0);
        world.step().await;
        let place = world.store.attempt_place(run.attempt_id()).await.unwrap().unwrap();
        assert_eq!(place.engine_id.unwrap().as_str(), "fake");
        assert_eq!(world.finish(&run_id).await["outcome"], "succeeded");
    }

    async fn a_launch_that_hangs_does_not_keep_a_clusters_loops_from_ending(world: World) {
        world.script().hold_launches(true);
        let run_id = world.run("exit 0").await;
        world.dispatch().await;
        assert_eq!(world.history(&run_id).await["status"], "PENDING");
        world.control.end().await;
        let mut world = world;
        world.restart();
        world.script().hold_launches(false);
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], &run["attempt_count"]), (&json!("succeeded"), &json!(1)));
        assert_eq!(world.script().times_started(World::attempt(&run_id, 1)), 1);
    }

    async fn a_pump_ends_where_another_can_go_on(world: World) {
        let run_id = world.run(&format!("echo one; {WAIT}; echo two")).await;
        world.step_until_printed(&run_id, "one\n").await;
        world.control.end().await;
        let mut world = world;
        world.restart();
        world.script().print(World::attempt(&run_id, 1), "between\n");
        world.go_on(&run_id).await;
        world.finish(&run_id).await;
        assert_eq!(world.log(&run_id).await, "one\nbetween\ntwo\n");
    }
}
