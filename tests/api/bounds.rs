//! How much one run, and one answer, may hold.

use flotilla::model::{EnvVar, Event, RunId, limits};
use serde_json::{Value, json};

use crate::on_fake_engine;
use crate::world::{World, each, text};

/// A run as it could be launched before variables had their present bound; the value ends with its number.
async fn store_large_run(world: &World, like: &str, number: usize) -> String {
    let mut run = world.store.run(like.parse().unwrap()).await.unwrap().unwrap();
    run.run_id = RunId::generate();
    run.queued_at += jiff::SignedDuration::from_secs(1 + i64::try_from(number).unwrap());
    let value = |part: usize| format!("{}{part}-{number}", "x".repeat(100_000));
    run.task.env = (0..9).map(|part| EnvVar::new(format!("V{part}"), value(part))).collect();
    world.store.insert_run(&run).await.unwrap();
    run.run_id.to_string()
}

fn variables(number: usize, bytes: usize) -> Vec<Value> {
    (0..number).map(|i| json!({"name": format!("V{i}"), "value": "x".repeat(bytes)})).collect()
}

on_fake_engine! {
    async fn a_list_of_large_runs_is_whole_and_in_order_though_it_is_never_in_memory_as_a_whole(world: World) {
        let first = world.run("exit 0").await;
        let mut expected = vec![first.clone()];
        for number in 0..12 {
            expected.insert(0, store_large_run(&world, &first, number).await);
        }
        let answer = world.get("/api/v1/history?limit=2000").await;
        assert!(answer.bytes.len() > 12 * 2 * 900_000, "{}", answer.bytes.len());
        let list = answer.ok();
        assert_eq!(each(&list["history"], "run_id"), expected);
        assert_eq!((&list["total"], &list["limit"], &list["offset"]), (&json!(13), &json!(2000), &json!(0)));
        for (number, run) in list["history"].as_array().unwrap().iter().rev().skip(1).enumerate() {
            let value = run["env"][8]["value"].as_str().unwrap();
            assert!(value.len() > 100_000 && value.ends_with(&format!("x8-{number}")), "{number}");
            assert_eq!(run["env"], run["environment"]);
            assert_eq!(run["spawned_runs"], Value::Null);
        }
        // Page by page the same, in another order as well, and for one task alone.
        let definition_id = text(&list["history"][0]["definition_id"]);
        for path in ["/api/v6/history?sort_by=started_at&order=asc".to_owned(), format!("/api/v1/task/{definition_id}/history?order=asc")] {
            let mut paged = Vec::new();
            for offset in (0..13).step_by(5) {
                let list = world.get(&format!("{path}{}limit=5&offset={offset}", if path.contains('?') { '&' } else { '?' })).await.ok();
                assert_eq!((&list["total"], &list["limit"]), (&json!(13), &json!(5)));
                paged.extend(each(&list["history"], "run_id"));
            }
            paged.sort();
            let mut all = expected.clone();
            all.sort();
            assert_eq!(paged, all, "{path}");
        }
        let by_variable = world.get("/api/v1/history?env=V0|1").await.ok();
        assert_eq!(by_variable["total"], 0);
    }

    async fn runs_from_before_the_bounds_stay_readable_and_their_task_can_be_launched(world: World) {
        let first = world.run("exit 0").await;
        let large = store_large_run(&world, &first, 7).await;
        let run = world.history(&large).await;
        assert_eq!(run["env"].as_array().unwrap().len(), 9);
        world.step_until(&large, |run| run["status"] == "STOPPED").await;
        let definition_id = text(&run["definition_id"]);
        for page in [format!("/ui/runs/{large}"), format!("/ui/tasks/{definition_id}"), format!("/ui/tasks/{definition_id}/launch?from={large}")] {
            assert_eq!(world.get(&page).await.status.as_u16(), 200, "{page}");
        }
        world.launch(&definition_id, json!({})).await;
    }

    async fn a_run_with_a_long_story_lists_the_newest_of_it_and_says_how_much_there_is(world: World) {
        let run_id = world.run("exit 0").await;
        let run = world.store.run(run_id.parse().unwrap()).await.unwrap().unwrap();
        let now = world.control.clock.now();
        let mut change = flotilla::model::refuse(&run, "for the test", now);
        change.events = (0..10_001).map(|number| Event::normal(now, "Told", number.to_string())).collect();
        assert!(world.store.apply(run.run_id, &change).await.unwrap());
        let events = world.get(&format!("/api/v6/{run_id}/events")).await.ok();
        let messages = each(&events["pod_events"], "message");
        assert_eq!((messages.len(), events["total"].as_u64()), (10_000, Some(10_002)));
        assert_eq!((messages[0].as_str(), messages[9_999].as_str()), ("1", "10000"));
        assert_eq!(world.history(&run_id).await["pod_events"], events["pod_events"]);
    }

    async fn lists_on_pages_carry_no_variables(world: World) {
        let first = world.run("exit 0").await;
        let large = store_large_run(&world, &first, 1).await;
        let run = world.history(&large).await;
        let definition_id = text(&run["definition_id"]);
        let id = large.as_str();
        let body = json!({"alias": "with-variables", "group_name": "g", "image": "i:1", "command": "c", "tags": ["b", "a"],
                          "env": variables(4, 100_000)});
        world.post("/api/v1/task", body).await.ok();
        for (page, shown) in [
            ("/ui/runs".to_owned(), id),
            (format!("/ui/runs?task={definition_id}"), id),
            ("/ui/tasks?q=with".to_owned(), "with-variables"),
            (format!("/ui/tasks/{definition_id}"), id),
            ("/ui/clusters/default".to_owned(), id),
            (format!("/ui/palette?q={id}"), id),
            ("/ui/palette?q=with-var".to_owned(), "with-variables"),
        ] {
            let answer = world.get(&page).await;
            let html = String::from_utf8(answer.bytes).unwrap();
            assert_eq!(answer.status.as_u16(), 200, "{page}: {html}");
            assert!(html.contains(shown), "{page}: {html}");
            assert!(html.len() < 100_000 && !html.contains("xxxxxxxx"), "{page}: {}", html.len());
        }
        let html = String::from_utf8(world.get("/ui/tasks").await.bytes).unwrap();
        let (first, second) = (html.find("tag=b\"").unwrap(), html.find("tag=a\"").unwrap());
        assert!(first < second, "tags are in the order of the task");
    }

    async fn variables_are_refused_beyond_a_number_and_beyond_a_size(world: World) {
        let definition_id = world.define("plain", "exit 0").await;
        let task = |env: Vec<Value>| json!({"alias": "a", "group_name": "g", "image": "i:1", "command": "c", "env": env});
        let launch = format!("/api/v4/task/{definition_id}/execute");
        let update = format!("/api/v1/task/{definition_id}");
        let too_many = variables(limits::ENV_ITEMS + 1, 1);
        let too_large = variables(6, 100_000);
        for (env, expected) in [
            (too_many, "`env` has 1001 variables, at most 1000 are allowed"),
            (too_large, "`env` is 600024 bytes in all, at most 524288 are allowed"),
        ] {
            assert_eq!(world.post("/api/v1/task", task(env.clone())).await.refused(400), expected);
            assert_eq!(world.put(&update, json!({"env": env})).await.refused(400), expected);
            assert_eq!(world.put(&launch, json!({"env": env})).await.refused(400), expected);
        }
        // As many as there may be, the server's own beside them.
        let full = world.put(&update, json!({"env": variables(limits::ENV_ITEMS, 1)})).await.ok();
        assert_eq!(full["env"].as_array().unwrap().len(), 1000);
        let run = world.put(&launch, json!({})).await.ok();
        assert_eq!(run["env"].as_array().unwrap().len(), 1003);
        // What a definition and a launch have together counts.
        let error = world.put(&launch, json!({"env": [{"name": "ONE_MORE", "value": ""}]})).await.refused(400);
        assert_eq!(error, "`env` has 1001 variables, at most 1000 are allowed");
        let largest = "x".repeat(limits::ARGUMENT_BYTES - limits::NAME_BYTES - 1);
        world.put(&update, json!({"env": [{"name": "A", "value": largest}]})).await.ok();
        let error = world.put(&update, json!({"env": [{"name": "A", "value": format!("{largest}x")}]})).await.refused(400);
        assert_eq!(error, "`env[0].value` is 130816 bytes long, at most 130815 are allowed");
    }

    async fn a_request_with_very_many_faults_is_told_the_first_of_them(world: World) {
        let body = json!({"alias": "a", "group_name": "g", "image": "i:1", "command": "c", "tags": vec![""; 100_000],
                          "ports": vec![0; 50_000]});
        let error = world.post("/api/v1/task", body).await.refused(400);
        assert!(error.starts_with("`tags[0]` must not be empty; ") && error.len() < 10_000, "{}", error.len());
    }
}
