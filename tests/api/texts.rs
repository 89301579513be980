//! What others say becomes text in the database: whatever it holds, both databases store the same.

use flotilla::model::{Event, RunId, StartFault};
use serde_json::{Value, json};

crate::on_fake_engine! {
    async fn a_run_ends_whatever_its_engine_says_about_it(world: World) {
        let long = format!("{}\u{0}{}", "é".repeat(200_000), "the end");
        for (reason, expected) in [("no\u{0} place\u{0}", "no\u{fffd} place\u{fffd}"), (&*long, "ééé")] {
            world.script().refuse_launches(Some((reason, StartFault::Task)));
            let run_id = world.run("exit 0").await;
            let run = world.finish(&run_id).await;
            let said = run["exit_reason"].as_str().unwrap();
            assert_eq!(run["outcome"], "rejected");
            assert!(said.contains(expected) && !said.contains('\0') && said.len() <= 16 * 1024, "{}", said.len());
            world.script().refuse_launches(None);
        }
    }

    async fn an_event_is_stored_with_any_text_and_once(world: World) {
        let run_id = world.run("exit 0").await;
        let run_id: RunId = run_id.parse().unwrap();
        let now = world.control.clock.now();
        for message in ["a\u{0}b".to_owned(), "\u{0}".repeat(100_000), "\u{1}\u{7f}\u{202e}".to_owned()] {
            let event = Event { reason: "Od\u{0}d".to_owned(), source_object: "x\u{0}".repeat(50_000), ..Event::warning(now, "Odd", message) };
            for _ in 0..2 {
                world.store.append_event(run_id, &event).await.unwrap();
            }
        }
        let events = world.store.newest_events(run_id, 1000).await.unwrap();
        let odd: Vec<_> = events.iter().filter(|event| event.reason == "Od\u{fffd}d").collect();
        assert_eq!(odd.len(), 3, "each once");
        assert_eq!((odd[0].message.as_str(), odd[2].message.as_str()), ("a\u{fffd}b", "\u{1}\u{7f}\u{202e}"));
        assert!(odd.iter().all(|event| event.message.len() <= 16 * 1024 && event.source_object.len() <= 16 * 1024));
        assert_eq!(world.history(&run_id.to_string()).await["status"], "QUEUED");
    }

    async fn a_handle_and_a_stored_cluster_hold_no_nul(world: World) {
        let run_id = world.run("exit 0").await;
        world.dispatch().await;
        world.control.until_work_is_done().await;
        let attempt_id = flotilla::model::AttemptId { run_id: run_id.parse().unwrap(), attempt: 1 };
        world.store.set_handle(attempt_id, "of the\u{0}engine").await.unwrap();
        let active = world.store.active_attempt("default", attempt_id).await.unwrap().unwrap();
        assert_eq!(active.handle.as_deref(), Some("of the\u{fffd}engine"));
    }

    async fn a_request_with_a_nul_in_it_is_refused_wherever_it_stands(world: World) {
        let definition_id = world.define("plain", "exit 0").await;
        let run_id = world.launch(&definition_id, json!({})).await;
        let nul = "a\u{0}b";
        let status = format!("/api/v1/{run_id}/status");
        for (path, body) in [
            (format!("/api/v1/task/{definition_id}/execute"), json!({"cluster": nul})),
            (format!("/api/v4/task/{definition_id}/execute"), json!({"idempotence_key": nul})),
            (format!("/api/v4/task/{definition_id}/execute"), json!({"run_tags": {"owner_id": nul}})),
            (format!("/api/v4/task/{definition_id}/execute"), json!({"description": nul})),
            (format!("/api/v4/task/{definition_id}/execute"), json!({"command": nul})),
            (format!("/api/v4/task/{definition_id}/execute"), json!({"env": [{"name": nul, "value": "x"}]})),
            (format!("/api/v4/task/{definition_id}/execute"), json!({"labels": {"a": nul}})),
            (format!("/api/v1/task/{definition_id}"), json!({"image": nul})),
            (status.clone(), json!({"status": "STOPPED", "exit_reason": nul})),
            (status.clone(), json!({"status": "STOPPED", "run_exceptions": [nul]})),
            (status.clone(), json!({"status": "STOPPED", "run_exceptions": {"a": [{nul: 1}]}})),
            (status, json!({"status": nul})),
        ] {
            let error = world.put(&path, body.clone()).await.refused(400);
            assert!(!error.is_empty(), "{path} {body}");
        }
        for path in ["/api/v1/task?alias=a%00", "/api/v1/history?user=%00", "/api/v1/history?env=A%7C%00", "/api/v1/tags?name=%00", "/api/v1/task/alias/%00"] {
            world.get(path).await.refused(400);
        }
        assert_eq!(world.get("/api/v1/history").await.ok()["total"], 1);
        assert_eq!(world.history(&run_id).await["run_exceptions"], Value::Null);
    }
}
