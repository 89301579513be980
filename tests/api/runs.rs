//! Runs: their life as clients see it, stops, reported statuses.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::on_every_engine;
use crate::world::{WAIT, text};

on_every_engine! {
    async fn a_run_goes_through_its_statuses_and_tells_its_story(world: World) {
        let run_id = world.run(&format!("echo hello; {WAIT}; exit 0")).await;
        assert_eq!(world.history(&run_id).await["status"], "QUEUED");
        world.dispatch().await;
        assert_eq!(world.history(&run_id).await["status"], "PENDING");
        let run = world.step_until(&run_id, |run| run["status"] != "PENDING").await;
        assert_eq!((&run["status"], &run["outcome"], &run["finished_at"]), (&json!("RUNNING"), &Value::Null, &Value::Null));
        world.go_on(&run_id).await;
        let run = world.step_until(&run_id, |run| run["status"] != "RUNNING").await;
        assert_eq!(run["status"], "STOPPED");
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], &run["exit_code"], &run["exit_reason"]), (&json!("succeeded"), &json!(0), &Value::Null));
        assert_eq!((&run["attempt_count"], run["instance"]["dns_name"].is_string()), (&json!(1), true));
        let time = |field: &str| text(&run[field]).parse::<jiff::Timestamp>().unwrap();
        assert!(time("queued_at") <= time("started_at") && time("started_at") <= time("finished_at"), "{run}");
        for path in [format!("/api/v1/{run_id}/events"), format!("/api/v6/{run_id}/events"), format!("/v1/{run_id}/events")] {
            let events = world.get(&path).await.ok();
            assert_eq!(events["pod_events"], run["pod_events"], "{path}");
            assert_eq!(events["total"], run["pod_events"].as_array().unwrap().len());
            let first = &events["pod_events"][0];
            assert_eq!((&first["event_type"], &first["source_object"]), (&json!("Normal"), &json!("flotilla")));
            assert_eq!((&first["timestamp"], &first["message"]), (&run["queued_at"], &json!("waiting for a place on cluster default")));
        }
        assert_eq!(world.story(&run_id).await, ["Queued", "Dispatched", "Started", "Succeeded"]);
    }

    async fn stopping_a_queued_run_never_starts_it(world: World) {
        let id = world.define("queued", "exit 0").await;
        let run_id = world.launch(&id, json!({})).await;
        let answer = world.delete(&format!("/api/v1/task/{id}/history/{run_id}")).await.ok();
        assert_eq!((&answer["stopped"], &answer["terminated"], &answer["run_id"]), (&json!(true), &json!(true), &json!(run_id)));
        assert_eq!((&answer["status"], &answer["outcome"], &answer["exit_code"]), (&json!("STOPPED"), &json!("stopped"), &Value::Null));
        assert_eq!(answer["exit_reason"], "stopped on request before it started");
        world.step().await;
        assert!(world.is_engine_empty().await);
        assert_eq!(world.story(&run_id).await, ["Queued", "Stopped"]);
    }

    async fn stopping_a_running_run_is_carried_out_and_changes_nothing_when_repeated(world: World) {
        let id = world.define("running", "sleep 100").await;
        let run_id = world.launch(&id, json!({})).await;
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        let path = format!("/api/v6/task/{id}/history/{run_id}");
        let answer = world.delete(&path).await.ok();
        assert_eq!((&answer["status"], &answer["stopped"]), (&json!("RUNNING"), &json!(true)));
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], &run["exit_code"], &run["exit_reason"]), (&json!("stopped"), &json!(143), &json!("stopped on request")));
        let again = world.delete(&path).await.ok();
        assert_eq!((&again["stopped"], &again["finished_at"], &again["outcome"]), (&json!(true), &run["finished_at"], &json!("stopped")));
        let other = world.define("not-its", "true").await;
        world.delete(&format!("/api/v1/task/{other}/history/{run_id}")).await.refused(404);
    }

    async fn a_job_reports_its_own_status_in_order(world: World) {
        let run_id = world.run("sleep 100").await;
        let path = format!("/api/v1/{run_id}/status");
        world.put(&path, json!({"status": "RUNNING"})).await.refused(409);
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        for (body, expected) in [
            (json!({}), "`status` is needed"),
            (json!({"status": "running"}), "\"running\" is none of QUEUED, PENDING, RUNNING, NEEDS_RETRY, STOPPED"),
            (json!({"status": 5}), "`status`: invalid type: integer `5`"),
            (json!({"status": "STOPPED", "exit_code": "zero"}), "`exit_code`: invalid type"),
        ] {
            let error = world.put(&path, body).await.refused(400);
            assert!(error.contains(expected), "{error}");
        }
        for backwards in ["QUEUED", "PENDING", "NEEDS_RETRY"] {
            world.put(&path, json!({"status": backwards})).await.refused(409);
        }
        world.put(&path, json!({"status": "RUNNING"})).await.ok();
        let body = json!({"status": "STOPPED", "exit_code": 4, "exit_reason": "no data", "run_exceptions": ["ValueError"]});
        let run = world.put(&path, body.clone()).await.ok();
        assert_eq!((&run["status"], &run["exit_code"], &run["exit_reason"], &run["outcome"], &run["run_exceptions"]),
                   (&json!("STOPPED"), &json!(4), &json!("no data"), &json!("failed"), &json!(["ValueError"])));
        world.put(&path, body).await.ok();
        world.put(&path, json!({"status": "STOPPED", "exit_code": 0})).await.refused(409);
        world.put(&path, json!({"status": "RUNNING"})).await.refused(409);
        // What still runs is ended and removed, and changes nothing about what was reported.
        let run = world.finish(&run_id).await;
        assert_eq!((&run["exit_code"], &run["exit_reason"]), (&json!(4), &json!("no data")));
        assert!(world.is_engine_empty().await);
    }

    async fn a_run_is_found_at_every_path(world: World) {
        let id = world.define("paths", "exit 0").await;
        let run_id = world.launch(&id, json!({})).await;
        let run = world.history(&run_id).await;
        for path in ["/v1/history/R", "/api/v6/history/R", "/api/v1/task/history/R", "/api/v6/task/history/R",
                     "/api/v1/task/D/history/R", "/v1/task/D/history/R", "/api/v6/task/D/history/R"] {
            let path = path.replace('R', &run_id).replace('D', &id);
            assert_eq!(world.get(&path).await.ok(), run, "{path}");
        }
        let other = world.define("other", "exit 0").await;
        world.get(&format!("/api/v1/task/{other}/history/{run_id}")).await.refused(404);
        for unknown in ["nonsense", "00000000-0000-7000-8000-000000000000"] {
            for path in ["/api/v1/history/R", "/api/v1/R/logs", "/api/v1/R/logs/stream", "/api/v1/R/events", "/api/v6/R/status"] {
                let error = world.get(&path.replace('R', unknown)).await.refused(404);
                assert!(error.contains(unknown), "{error}");
            }
            world.delete(&format!("/api/v1/task/{id}/history/{unknown}")).await.refused(404);
            world.put(&format!("/api/v1/{unknown}/status"), json!({"status": "STOPPED"})).await.refused(404);
        }
    }

    async fn each_end_has_its_code_and_its_reason(world: World) {
        for (command, code, outcome, reason) in [
            ("exit 0", 0, "succeeded", Value::Null),
            ("exit 3", 3, "failed", json!("exited with code 3")),
            ("kill -9 $$", 137, "failed", json!("ended by signal 9 (SIGKILL)")),
        ] {
            let run_id = world.run(command).await;
            let run = world.finish(&run_id).await;
            assert_eq!((&run["exit_code"], &run["outcome"], &run["exit_reason"]), (&json!(code), &json!(outcome), &reason), "{command}");
        }
    }

    async fn the_status_route_has_its_fields_and_an_etag(world: World) {
        let run_id = world.run("sleep 100").await;
        let path = format!("/api/v6/{run_id}/status");
        let first = world.get(&path).await;
        let body = first.ok();
        let fields: std::collections::BTreeSet<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["run_id", "status", "queued_at", "engine", "definition_id", "alias", "cluster_name"].into());
        let tag = first.headers["etag"].to_str().unwrap().to_owned();
        let conditional = async |tags: &str| {
            let request = Request::get(&path).header("if-none-match", tags).body(Body::empty()).unwrap();
            world.request(request).await
        };
        for known in [tag.clone(), format!("\"other\", {tag}"), format!("W/{tag}"), "*".into()] {
            let answer = conditional(&known).await;
            assert_eq!((answer.status(), answer.headers()["etag"].to_str().unwrap()), (StatusCode::NOT_MODIFIED, tag.as_str()));
        }
        assert_eq!(conditional("\"other\"").await.status(), StatusCode::OK);
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        assert_eq!(conditional(&tag).await.status(), StatusCode::OK);
    }
}

mod scripted {
    use super::*;

    crate::on_fake_engine! {
        async fn a_stop_that_comes_while_the_engine_is_away_is_kept_and_carried_out(world: World) {
            let id = world.define("running", "sleep 100").await;
            let run_id = world.launch(&id, json!({})).await;
            world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
            world.script().set_available(Some("away"));
            let answer = world.delete(&format!("/api/v6/task/{id}/history/{run_id}")).await.ok();
            assert_eq!((&answer["status"], &answer["stopped"]), (&json!("RUNNING"), &json!(true)));
            world.step().await;
            assert_eq!(world.history(&run_id).await["status"], "RUNNING");
            world.script().set_available(None);
            world.advance(jiff::SignedDuration::from_secs(1));
            assert_eq!(world.finish(&run_id).await["outcome"], "stopped");
        }

        async fn what_was_used_is_told(world: World) {
            let run_id = world.run("exit 0").await;
            assert_eq!(world.finish(&run_id).await["max_memory_used"], 1);
        }
    }
}

/// On engines that measure while a run goes on.
mod measured {
    use crate::world::{WAIT, World};

    async fn what_a_run_uses_is_drawn_while_it_goes_on(world: World) {
        let run_id = world.run(WAIT).await;
        let look = async || {
            let page = world.get(&format!("/ui/runs/{run_id}")).await;
            String::from_utf8_lossy(&page.bytes).contains("<svg class=\"usage\"").then_some(())
        };
        world.stepping("its use is drawn", look).await;
        world.go_on(&run_id).await;
        world.finish(&run_id).await;
        assert!(look().await.is_some(), "it stays");
    }

    crate::on_engine! { docker, on_docker, what_a_run_uses_is_drawn_while_it_goes_on }
    crate::on_engine! { kubernetes, on_kubernetes, what_a_run_uses_is_drawn_while_it_goes_on }
}
