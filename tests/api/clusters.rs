//! Clusters: told about, drained, and what that means for runs that wait. How they come and go is in tests/clusters.rs.

use serde_json::{Value, json};

use crate::on_every_engine;
use crate::world::{Options, each};

on_every_engine! {
    async fn a_drained_cluster_gets_no_further_run_and_goes_on_with_those_it_has(world: World) {
        let before = world.run("sleep 100").await;
        world.step_until(&before, |run| run["status"] == "RUNNING").await;
        let drain = json!({"status": "maintenance", "status_reason": "new disks"});
        let cluster = world.put("/api/v6/clusters/default", drain).await.ok();
        assert_eq!((&cluster["status"], &cluster["status_reason"]), (&json!("maintenance"), &json!("new disks")));
        let after = world.run("exit 0").await;
        for _ in 0..3 {
            world.step().await;
        }
        assert_eq!(world.history(&before).await["status"], "RUNNING");
        let waiting = world.history(&after).await;
        assert_eq!(waiting["status"], "QUEUED");
        let why = waiting["waiting_reason"].as_str().unwrap();
        assert!(why.starts_with("the cluster default is in maintenance since 20") && why.ends_with(" UTC: new disks"), "{why}");

        let back = world.put("/api/v6/clusters/default", json!({"status": "active"})).await.ok();
        assert_eq!((&back["status"], &back["status_reason"]), (&json!("active"), &json!("")));
        assert_eq!(world.finish(&after).await["exit_code"], 0);
    }

    async fn a_cluster_tells_its_load_and_its_state(world: World) {
        let running = world.run("sleep 100").await;
        world.step_until(&running, |run| run["status"] == "RUNNING").await;
        world.put("/api/v6/clusters/default", json!({"status": "offline", "region": "north"})).await.ok();
        world.run("exit 0").await;
        world.run("exit 0").await;
        let list = world.get("/api/v6/clusters").await.ok();
        assert_eq!((each(&list["clusters"], "name"), &list["total"]), (vec!["default".to_owned(), "idle".to_owned()], &json!(2)));
        let cluster = world.get("/v6/clusters/default").await.ok();
        assert_eq!(list["clusters"][0], cluster);
        for (field, expected) in [
            ("id", json!("default")), ("status", json!("offline")), ("engine", json!(world.control.engine.kind())), ("region", json!("north")),
            ("is_default", json!(true)), ("reachable", json!(true)), ("running", json!(1)), ("queued", json!(2)),
            ("pending", json!(0)), ("allowed_tiers", json!([])), ("settings", Value::Null),
        ] {
            assert_eq!(cluster[field], expected, "{field}: {cluster}");
        }
        assert_eq!(list["clusters"][1]["is_default"], json!(false));
        assert_eq!(world.get("/api/v1/clusters").await.ok(), json!({"clusters": ["default", "idle"]}));
    }

    async fn a_cluster_of_some_tiers_lets_only_their_runs_in(world: World) {
        world.put("/api/v6/clusters/default", json!({"allowed_tiers": ["gold", "silver"]})).await.ok();
        let id = world.define("tiered", "exit 0").await;
        let path = format!("/api/v4/task/{id}/execute");
        let launch = |body: Value| world.put(&path, body);
        assert_eq!(launch(json!({})).await.refused(400),
                   "`tier` must be one of those of the cluster default (gold, silver), none is given");
        assert!(launch(json!({"tier": "lead"})).await.refused(400).ends_with("not \"lead\""));
        launch(json!({"tier": "gold"})).await.ok();
        launch(json!({"cluster": "idle"})).await.ok();
        world.put("/api/v6/clusters/default", json!({"allowed_tiers": []})).await.ok();
        launch(json!({})).await.ok();
    }

    async fn a_change_that_makes_no_sense_is_refused_and_changes_nothing(world: World) {
        for (body, expected) in [
            (json!({"status": "sleeping"}), "active, maintenance, offline"),
            (json!({"name": "other"}), "can't change"),
            (json!({"allowed_tiers": "gold"}), "allowed_tiers"),
            (json!({"region": "a\nb"}), "region"),
        ] {
            let error = world.put("/api/v6/clusters/default", body.clone()).await.refused(400);
            assert!(error.contains(expected), "{body}: {error}");
        }
        assert_eq!(world.get("/api/v6/clusters/default").await.ok()["status"], "active");
        let unknown = world.put("/api/v6/clusters/nowhere", json!({"status": "offline"})).await.refused(404);
        assert_eq!(unknown, "there is no cluster \"nowhere\"; there is default, idle");
        assert_eq!(world.get("/api/v6/clusters/nowhere").await.refused(404), unknown);
    }

    async fn clusters_come_from_the_configuration_only_unless_the_operator_says_otherwise(world: World) {
        let new = json!({"name": "far", "settings": {"engine": "docker"}});
        for answer in [
            world.post("/api/v6/clusters", new).await,
            world.put("/api/v6/clusters/idle", json!({"settings": {}})).await,
            world.delete("/api/v6/clusters/idle").await,
        ] {
            assert!([403, 409].contains(&answer.status.as_u16()), "{answer:?}");
        }
        assert_eq!(world.get("/api/v1/clusters").await.ok(), json!({"clusters": ["default", "idle"]}));
        let nameless = world.post("/api/v6/clusters", json!({})).await.refused(400);
        assert_eq!(nameless, "`name` is needed");
    }

    async fn a_run_that_waits_says_how_many_are_before_it(world: World = Options { max_running: Some(1), ..Options::default() }) {
        let first = world.run("sleep 100").await;
        world.step_until(&first, |run| run["status"] == "RUNNING").await;
        let (second, third) = (world.run("exit 0").await, world.run("exit 0").await);
        world.step().await;
        let why = async |id: &str| world.history(id).await["waiting_reason"].clone();
        assert_eq!(why(&first).await, Value::Null);
        let second = why(&second).await;
        assert!(second.as_str().unwrap().starts_with("it is the next for the cluster default, which has 1 of at most 1 runs"), "{second}");
        let third = why(&third).await;
        assert!(third.as_str().unwrap().starts_with("1 run waits before it for the cluster default, which has 1 of at most 1 runs"), "{third}");
    }
}

mod scripted {
    use super::*;

    crate::on_fake_engine! {
        async fn an_engine_that_is_away_is_shown_as_such(world: World) {
            world.script().set_available(Some("it sleeps"));
            let cluster = world.get("/api/v6/clusters/default").await.ok();
            assert_eq!((&cluster["status"], &cluster["reachable"]), (&json!("active"), &json!(false)), "{cluster}");
            assert_eq!(cluster["unreachable_reason"], "it sleeps");
            let run_id = world.run("exit 0").await;
            let why = world.history(&run_id).await["waiting_reason"].clone();
            assert_eq!(why, "the cluster default can't be reached since 2026-01-01 00:00 UTC: it sleeps");
            world.script().set_available(None);
            world.finish(&run_id).await;
            assert_eq!(world.get("/api/v6/clusters/default").await.ok()["reachable"], json!(true));
        }
    }
}
