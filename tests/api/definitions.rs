//! Task definitions: created, found, updated, deregistered.

use serde_json::json;

use crate::on_every_engine;
use crate::world::{each, text};

on_every_engine! {
    async fn a_definition_is_created_with_everything_and_found_by_id_and_alias(world: World) {
        let body = json!({
            "alias": "everything", "group_name": "testing", "image": "library/ubuntu:latest",
            "command": "echo 'hi'\necho 'ho'", "env": [{"name": "A", "value": "1"}, {"name": "EMPTY"}],
            "memory": 512, "cpu": 250, "gpu": 1, "tags": ["x", "y"], "user": "nobody", "ephemeral_storage": 100,
            "ports": [80, 443], "adaptive_resource_allocation": true, "privileged": false, "task_type": "task",
            "unknown_field": {"is": "ignored"}
        });
        let created = world.post("/api/v1/task", body.clone()).await.ok();
        let id = text(&created["definition_id"]);
        assert!(id.starts_with("testing-"), "{id}");
        for field in ["alias", "group_name", "image", "command", "memory", "cpu", "gpu", "tags", "user",
                      "ephemeral_storage", "ports", "adaptive_resource_allocation", "privileged", "task_type"] {
            assert_eq!(created[field], body[field], "{field}");
        }
        let env = json!([{"name": "A", "value": "1"}, {"name": "EMPTY", "value": ""}]);
        assert_eq!((&created["env"], &created["environment"]), (&env, &env));

        for path in [format!("/api/v1/task/{id}"), format!("/v1/task/{id}"), format!("/api/v6/task/{id}"),
                     "/api/v1/task/alias/everything".into(), "/v1/task/alias/everything".into(),
                     "/api/v6/task/alias/everything".into()] {
            assert_eq!(world.get(&path).await.ok(), created, "{path}");
        }
    }

    async fn the_older_name_of_env_is_taken_too(world: World) {
        let body = json!({"group_name": "g", "image": "i", "command": "c",
                          "environment": [{"name": "GIT_SSH", "value": "/x"}]});
        let created = world.post("/v1/task", body).await.ok();
        assert_eq!(created["env"], json!([{"name": "GIT_SSH", "value": "/x"}]));
    }

    async fn all_that_is_missing_is_named_at_once(world: World) {
        let error = world.post("/api/v1/task", json!({"alias": "a"})).await.refused(400);
        for field in ["image", "command", "group_name"] {
            assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
        }
        assert_eq!(world.get("/api/v1/task").await.ok()["total"], 0);
    }

    async fn a_live_alias_is_taken_once(world: World) {
        let id = world.define("mine", "true").await;
        let body = json!({"alias": "mine", "group_name": "g", "image": "i", "command": "c"});
        let error = world.post("/api/v1/task", body.clone()).await.refused(409);
        assert!(error.contains("\"mine\""), "{error}");
        let other = world.define("other", "true").await;
        world.put(&format!("/api/v1/task/{other}"), json!({"alias": "mine"})).await.refused(409);
        // Its own alias is no conflict, and a free one is taken.
        world.put(&format!("/api/v1/task/{id}"), json!({"alias": "mine"})).await.ok();
        world.delete(&format!("/api/v1/task/{id}")).await.ok();
        world.post("/api/v1/task", body).await.ok();
    }

    async fn an_update_is_partial(world: World) {
        let body = json!({"alias": "a", "group_name": "g", "image": "i", "command": "c", "memory": 5,
                          "env": [{"name": "A", "value": "1"}], "tags": ["x"], "ports": [80]});
        let created = world.post("/api/v1/task", body).await.ok();
        let path = format!("/api/v1/task/{}", text(&created["definition_id"]));
        world.advance(jiff::SignedDuration::from_secs(5));
        let updated = world.put(&path, json!({"memory": 6, "tags": [], "group_name": "g"})).await.ok();
        assert_eq!((&updated["memory"], &updated["tags"]), (&json!(6), &json!([])));
        for field in ["alias", "image", "command", "env", "ports", "created_at", "definition_id"] {
            assert_eq!(updated[field], created[field], "{field}");
        }
        assert_ne!(updated["updated_at"], created["updated_at"]);
        assert_eq!(world.get(&path).await.ok(), updated);
        // What a client read it may send back.
        assert_eq!(world.put(&path, updated.clone()).await.ok()["env"], updated["env"]);
        assert_eq!(world.get("/api/v1/tags").await.ok()["tags"], json!([]));
    }

    async fn the_group_can_not_change(world: World) {
        let id = world.define("a", "true").await;
        let error = world.put(&format!("/api/v1/task/{id}"), json!({"group_name": "other"})).await.refused(400);
        assert!(error.contains("`group_name`") && error.contains("\"other\""), "{error}");
    }

    async fn a_deregistered_definition_is_gone_and_its_history_stays(world: World) {
        let id = world.define("gone", "exit 0").await;
        let run_id = world.launch(&id, json!({})).await;
        let path = format!("/api/v1/task/{id}");
        assert_eq!(world.delete(&path).await.ok(), json!({"definition_id": id, "deleted": true}));
        world.delete(&path).await.refused(404);
        world.get(&path).await.refused(404);
        world.put(&path, json!({})).await.refused(404);
        world.put(&format!("{path}/execute"), json!({})).await.refused(404);
        world.get("/api/v1/task/alias/gone").await.refused(404);
        world.put("/api/v1/task/alias/gone/execute", json!({})).await.refused(404);
        assert_eq!(world.get("/api/v1/task").await.ok()["total"], 0);
        assert_eq!(world.get("/api/v1/groups").await.ok()["total"], 0);
        // Its run goes on, and is found.
        assert_eq!(world.finish(&run_id).await["outcome"], "succeeded");
        let history = world.get(&format!("{path}/history")).await.ok();
        assert_eq!(each(&history["history"], "run_id"), [run_id.as_str()]);
        world.get(&format!("{path}/history/{run_id}")).await.ok();
    }

    async fn updates_at_the_same_time_lose_nothing(world: World) {
        let id = world.define("busy", "true").await;
        let path = format!("/api/v1/task/{id}");
        let (memory, cpu, image) = tokio::join!(
            world.put(&path, json!({"memory": 7})),
            world.put(&path, json!({"cpu": 8})),
            world.put(&path, json!({"image": "nine"})),
        );
        for answer in [memory, cpu, image] {
            answer.ok();
        }
        let now = world.get(&path).await.ok();
        assert_eq!((&now["memory"], &now["cpu"], &now["image"]), (&json!(7), &json!(8), &json!("nine")));
    }

    async fn of_creations_of_one_alias_at_the_same_time_one_succeeds(world: World) {
        let body = json!({"alias": "race", "group_name": "g", "image": "i", "command": "c"});
        let answers = futures_util::future::join_all((0..8).map(|_| world.post("/api/v1/task", body.clone()))).await;
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status.as_u16()).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 7, "{statuses:?}");
    }

    async fn an_unknown_definition_is_not_found(world: World) {
        for path in ["/api/v1/task/nothing-here", "/api/v1/task/alias/nothing", "/api/v1/task/x/history"] {
            let error = world.get(path).await.refused(404);
            assert!(!error.is_empty());
        }
    }
}
