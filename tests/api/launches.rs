//! Launches: each version of the route, what overrides what, and what is refused.

use axum::body::Body;
use flotilla::model::LaunchPolicy;
use serde_json::{Value, json};

use crate::on_every_engine;
use crate::world::{Options, World, text};

fn env(run: &Value, name: &str) -> Option<String> {
    let found = run["env"].as_array().unwrap().iter().find(|var| var["name"] == name)?;
    Some(text(&found["value"]))
}

fn owners_needed() -> Options {
    let policy = LaunchPolicy { is_owner_required: true, owner_variable: "OWNER".into(), server_mode: "test".into() };
    Options { policy, ..Options::default() }
}

on_every_engine! {
    async fn a_launch_answers_with_the_queued_run_and_all_that_its_definition_shows(world: World) {
        let body = json!({"alias": "full", "group_name": "g", "image": world.image, "command": "exit 0", "memory": 64,
                          "cpu": 100, "tags": ["t"], "env": [{"name": "A", "value": "1"}]});
        let definition = world.post("/api/v1/task", body).await.ok();
        let id = text(&definition["definition_id"]);
        // The body may be empty.
        let run = world.send("PUT", &format!("/api/v1/task/{id}/execute"), Body::empty()).await.ok();
        assert_eq!(run["status"], "QUEUED");
        for field in ["definition_id", "alias", "group_name", "image", "command", "memory", "cpu", "tags"] {
            assert_eq!(run[field], definition[field], "{field}");
        }
        assert_eq!((&run["cluster"], &run["engine"], &run["user"]), (&json!("default"), &json!(world.control.engine.kind()), &json!("v1-unknown")));
        assert_eq!((&run["executable_id"], &run["executable_type"]), (&json!(id), &json!("task_definition")));
        assert_eq!(env(&run, "A").as_deref(), Some("1"));
        assert_eq!(env(&run, "FLOTILLA_RUN_ID"), Some(text(&run["run_id"])));
        assert_eq!(env(&run, "FLOTILLA_SERVER_MODE").as_deref(), Some("prod"));
        assert_eq!(env(&run, "FLOTILLA_RUN_OWNER_ID").as_deref(), Some("v1-unknown"));
        for field in ["exit_code", "exit_reason", "started_at", "finished_at", "outcome", "max_memory_used"] {
            assert_eq!(run[field], Value::Null, "{field}");
        }
        assert!(text(&run["queued_at"]).parse::<jiff::Timestamp>().unwrap() <= world.control.clock.now());
    }

    async fn a_repeated_key_launches_nothing(world: World) {
        let id = world.define("keyed", "exit 0").await;
        let body = json!({"idempotence_key": "order-1"});
        let path = format!("/api/v4/task/{id}/execute");
        let launches = futures_util::future::join_all((0..8).map(|_| world.put(&path, body.clone()))).await;
        let ids: std::collections::BTreeSet<_> = launches.iter().map(|answer| text(&answer.ok()["run_id"])).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        let first = ids.into_iter().next().unwrap();
        world.finish(&first).await;
        assert_eq!(text(&world.put(&path, body).await.ok()["run_id"]), first, "a success is not repeated");
        assert_eq!(world.get("/api/v1/history").await.ok()["total"], 1);
    }

    async fn a_run_keeps_what_it_was_launched_with(world: World) {
        let id = world.define("kept", "exit 0").await;
        let run_id = world.launch(&id, json!({})).await;
        world.put(&format!("/api/v1/task/{id}"), json!({"command": "exit 9", "image": "other", "memory": 1, "tags": ["new"]})).await.ok();
        let run = world.history(&run_id).await;
        assert_eq!((&run["command"], &run["image"], &run["memory"], &run["tags"]),
                   (&json!("exit 0"), &json!(world.image), &Value::Null, &json!([])));
    }

    async fn every_version_reads_its_own_fields(world: World) {
        let id = world.define("versions", "exit 0").await;
        let body = json!({"cluster": "idle", "env": [{"name": "B", "value": "2"}],
                          "run_tags": {"owner_email": "ada@example.com", "team_name": "data", "OWNER_ID": "ada"},
                          "command": "exit 7", "memory": 32, "cpu": 10, "gpu": 0, "ephemeral_storage": 5,
                          "node_lifecycle": "spot", "active_deadline_seconds": 60, "labels": {"Team": "X"},
                          "description": "why", "arch": "arm64", "tier": "1", "service_account": "sa", "engine": "eks"});
        let v1 = world.put(&format!("/v1/task/{id}/execute"), body.clone()).await.ok();
        assert_eq!((&v1["cluster"], &v1["user"], &v1["command"]), (&json!("idle"), &json!("v1-unknown"), &json!("exit 0")));
        assert_eq!(env(&v1, "B").as_deref(), Some("2"));
        let v2 = world.put(&format!("/v2/task/{id}/execute"), body.clone()).await.ok();
        assert_eq!((&v2["user"], &v2["command"], &v2["memory"]), (&json!("ada"), &json!("exit 0"), &Value::Null));
        assert_eq!(v2["run_tags"]["team_name"], "data");
        for path in [format!("/api/v4/task/{id}/execute"), format!("/v4/task/{id}/execute"), format!("/api/v6/task/{id}/execute"),
                     "/api/v1/task/alias/versions/execute".into(), "/v1/task/alias/versions/execute".into(),
                     "/api/v6/task/alias/versions/execute".into()] {
            let run = world.put(&path, body.clone()).await.ok();
            assert_eq!(run["user"], "ada", "{path}");
            for field in ["command", "memory", "cpu", "gpu", "ephemeral_storage", "node_lifecycle",
                          "active_deadline_seconds", "labels", "description", "arch", "tier", "service_account"] {
                assert_eq!(run[field], body[field], "{path}: {field}");
            }
        }
    }

    async fn a_client_can_not_set_the_servers_own_variables(world: World) {
        let id = world.define("own", "exit 0").await;
        let body = json!({"env": [{"name": "FLOTILLA_RUN_ID", "value": "forged"}, {"name": "FLOTILLA_SERVER_MODE", "value": "x"}]});
        let run = world.put(&format!("/api/v1/task/{id}/execute"), body).await.ok();
        assert_eq!(env(&run, "FLOTILLA_RUN_ID"), Some(text(&run["run_id"])));
        assert_eq!(env(&run, "FLOTILLA_SERVER_MODE").as_deref(), Some("prod"));
    }

    async fn what_is_refused_stores_nothing(world: World) {
        let id = world.define("refused", "exit 0").await;
        let bodies = [
            (json!({"cluster": "nowhere"}), "\"nowhere\" is not known; there is default, idle"),
            (json!({"memory": 99_999_999}), "the cluster cannot support running the job"),
            (json!({"memory": -1}), "`memory` must be between 0 and"),
            (json!({"node_lifecycle": "cloud"}), "\"cloud\" is none of spot, ondemand"),
            (json!({"active_deadline_seconds": 0}), "`active_deadline_seconds` must be between 1"),
            (json!({"env": [{"name": "A=B", "value": "x"}]}), "`env["),
            (json!({"env": "A=B"}), "`env`: invalid type: string \"A=B\""),
            (json!({"run_tags": "ada"}), "`run_tags`: invalid type: string \"ada\""),
            (json!({"memory": "much"}), "`memory`: invalid type: string \"much\", expected an integer (megabytes)"),
            (json!({"image": "not an image"}), "`image` must not hold white space"),
            (json!({"image": "a/../../b"}), "`image` is not an image reference"),
        ];
        for (body, expected) in bodies {
            let error = world.put(&format!("/api/v4/task/{id}/execute"), body.clone()).await.refused(400);
            assert!(error.contains(expected), "{body}: {error}");
        }
        let error = world.put(&format!("/api/v4/task/{id}/execute"), json!({"cluster": "nowhere", "memory": -1})).await.refused(400);
        assert!(error.contains("`memory`") && error.contains("`cluster`"), "{error}");
        world.put("/api/v4/task/unknown/execute", json!({})).await.refused(404);
        world.put("/api/v1/task/alias/unknown/execute", json!({})).await.refused(404);
        assert_eq!(world.get("/api/v1/history").await.ok()["total"], 0);
    }

    async fn a_key_whose_run_has_failed_is_free(world: World) {
        let id = world.define("failing", "exit 3").await;
        let body = json!({"idempotence_key": "order-2"});
        let first = world.launch(&id, body.clone()).await;
        assert_eq!(world.launch(&id, body.clone()).await, first);
        world.finish(&first).await;
        let path = format!("/api/v4/task/{id}/execute");
        let launches = futures_util::future::join_all((0..8).map(|_| world.put(&path, body.clone()))).await;
        let ids: std::collections::BTreeSet<_> = launches.iter().map(|answer| text(&answer.ok()["run_id"])).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        assert!(!ids.contains(&first));
    }

    async fn a_child_is_listed_by_its_parent_and_stopped_with_it(world: World) {
        let id = world.define("family", "sleep 100").await;
        let parent = world.launch(&id, json!({})).await;
        let as_child = |of: &str| json!({"env": [{"name": "PARENT_FLOTILLA_RUN_ID", "value": of}]});
        let child = world.launch(&id, as_child(&parent)).await;
        let grandchild = world.launch(&id, as_child(&child)).await;
        let stranger = world.launch(&id, json!({})).await;
        // They don't start in the order of their launches everywhere.
        for run_id in [&parent, &child, &grandchild, &stranger] {
            world.step_until(run_id, |run| run["status"] == "RUNNING").await;
        }
        assert_eq!(world.history(&parent).await["spawned_runs"], json!([{"run_id": child}]));
        assert_eq!(world.history(&child).await["parent_run_id"], json!(parent));

        world.delete(&format!("/api/v1/task/{id}/history/{parent}")).await.ok();
        for run_id in [&parent, &child, &grandchild] {
            assert_eq!(world.finish(run_id).await["outcome"], "stopped");
        }
        assert_eq!(world.history(&child).await["exit_reason"], "stopped because its parent was stopped");
        assert_eq!(world.history(&stranger).await["status"], "RUNNING");
        // A parent that was asked to stop gets no more children.
        world.put(&format!("/api/v4/task/{id}/execute"), as_child(&parent)).await.refused(400);
    }

    async fn an_owner_is_needed_where_the_operator_says_so(world: World = owners_needed()) {
        let id = world.define("owned", "exit 0").await;
        let error = world.put(&format!("/api/v1/task/{id}/execute"), json!({})).await.refused(400);
        assert!(error.contains("`run_tags` needs an `owner_id` or `owner_email`"), "{error}");
        let run = world.put(&format!("/api/v2/task/{id}/execute"), json!({"run_tags": {"owner_email": "a@b"}})).await.ok();
        assert_eq!(
            (env(&run, "OWNER").as_deref(), env(&run, "FLOTILLA_SERVER_MODE").as_deref()),
            (Some("a@b"), Some("test"))
        );
    }
}

mod scripted {
    use super::*;

    crate::on_fake_engine! {
        async fn an_engine_that_is_away_refuses_no_launch(world: World) {
            world.script().set_available(Some("nobody answers"));
            let run_id = world.run("exit 0").await;
            world.step().await;
            world.step().await;
            let run = world.history(&run_id).await;
            assert_eq!(run["status"], "PENDING");
            let events = crate::world::each(&run["pod_events"], "reason");
            assert_eq!(events, ["Queued", "Dispatched", "LaunchDelayed"], "each reason is told once");
            world.script().set_available(None);
            assert_eq!(world.finish(&run_id).await["outcome"], "succeeded");
            assert_eq!(world.script().times_started(World::attempt(&run_id, 1)), 1);
        }

        async fn a_repeated_key_launches_again_after_seven_days(world: World) {
            let id = world.define("keyed", "exit 0").await;
            let body = json!({"idempotence_key": "order-1"});
            let first = world.launch(&id, body.clone()).await;
            world.finish(&first).await;
            world.pass(jiff::SignedDuration::from_hours(7 * 24)).await;
            assert_eq!(world.launch(&id, body.clone()).await, first);
            world.pass(jiff::SignedDuration::from_hours(1)).await;
            assert_ne!(world.launch(&id, body).await, first);
        }
    }
}
