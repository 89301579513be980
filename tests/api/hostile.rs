//! Every field that a client fills × what it should not: it comes back as it was, or it is refused by its name.

use serde_json::{Value, json};

use crate::on_fake_engine;
use crate::support::hostile::texts;
use crate::world::{Answer, World, text};

/// Where the value stands in a body, how an answer shows it, and what stands there for a value that says nothing.
type Field = (&'static str, &'static str, Value);

fn of_definition() -> Vec<Field> {
    let missing = || json!("refused");
    vec![
        ("/alias", "/alias", json!("")),
        ("/group_name", "/group_name", missing()),
        ("/image", "/image", missing()),
        ("/command", "/command", missing()),
        ("/env/0/name", "/env/0/name", missing()),
        ("/env/0/value", "/env/0/value", json!("")),
        ("/environment/0/value", "/env/0/value", json!("")),
        ("/tags/0", "/tags/0", missing()),
        ("/user", "/user", Value::Null),
        ("/task_type", "/task_type", json!("task")),
        ("/memory", "/memory", Value::Null),
        ("/cpu", "/cpu", Value::Null),
        ("/gpu", "/gpu", Value::Null),
        ("/ephemeral_storage", "/ephemeral_storage", Value::Null),
        ("/ports/0", "/ports/0", missing()),
        ("/privileged", "/privileged", Value::Null),
        ("/adaptive_resource_allocation", "/adaptive_resource_allocation", Value::Null),
    ]
}

fn of_launch() -> Vec<Field> {
    let (same, missing) = (|field: &str| json!({ "of the definition": field }), || json!("refused"));
    vec![
        ("/cluster", "/cluster", json!("default")),
        ("/env/0/name", "/env/0/name", missing()),
        ("/env/0/value", "/env/0/value", json!("")),
        ("/run_tags/owner_id", "/user", json!("v1-unknown")),
        ("/run_tags/owner_email", "/user", json!("v1-unknown")),
        ("/run_tags/team_name", "/run_tags/team_name", json!("")),
        ("/image", "/image", same("image")),
        ("/command", "/command", same("command")),
        ("/memory", "/memory", Value::Null),
        ("/cpu", "/cpu", Value::Null),
        ("/gpu", "/gpu", Value::Null),
        ("/ephemeral_storage", "/ephemeral_storage", Value::Null),
        ("/node_lifecycle", "/node_lifecycle", Value::Null),
        ("/active_deadline_seconds", "/active_deadline_seconds", Value::Null),
        ("/labels/team", "/labels/team", json!("")),
        ("/idempotence_key", "/idempotence_key", Value::Null),
        ("/description", "/description", json!("")),
        ("/arch", "/arch", json!("")),
        ("/tier", "/tier", json!("")),
        ("/service_account", "/service_account", json!("")),
    ]
}

/// The texts, and what is no text.
fn values() -> Vec<(String, Value)> {
    let deep = (0..100).fold(json!([]), |inner, _| json!([inner]));
    let others = [
        ("null", Value::Null),
        ("a truth", json!(true)),
        ("zero", json!(0)),
        ("less than zero", json!(-1)),
        ("one", json!(1)),
        ("half of one", json!(0.5)),
        ("the largest number", json!(i64::MAX)),
        ("beyond it", json!(u64::MAX)),
        ("the least", json!(i64::MIN)),
        ("far beyond", json!(1e300)),
        ("a list", json!(["a"])),
        ("an object", json!({"name": "a", "value": "b"})),
        ("deep", deep),
    ];
    let texts = texts().into_iter().map(|(name, text)| (name.to_owned(), Value::String(text)));
    texts.chain(others.map(|(name, value)| (format!("number or nest: {name}"), value))).collect()
}

/// A body with this value in one place.
fn with(mut body: Value, pointer: &str, value: &Value) -> Value {
    let mut place = &mut body;
    for part in pointer.split('/').skip(1) {
        if part == "0" {
            if !place.is_array() {
                // Where a variable stands, it is a whole one.
                *place = json!([if pointer.contains("env") { json!({"name": "A", "value": "b"}) } else { json!("t") }]);
            }
            place = &mut place[0];
        } else {
            if place.is_null() {
                *place = json!({});
            }
            place = &mut place[part];
        }
    }
    *place = value.clone();
    body
}

/// What was asked for as it is kept: a command's lines end as shells expect it.
fn kept(pointer: &str, value: &Value) -> Value {
    match value {
        Value::String(text) if pointer == "/command" => json!(text.replace("\r\n", "\n")),
        other => other.clone(),
    }
}

/// Refused by the field's name, in a text that says nothing of what is inside of the server.
fn assert_refusal(answer: &Answer, pointer: &str, case: &str) {
    assert!(answer.status.is_client_error(), "{case}: {answer:?}");
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    // `environment` is told as what it means.
    let pointer = pointer.replace("environment", "env");
    let parts: Vec<_> = pointer.split('/').skip(1).filter(|part| *part != "0").collect();
    assert!(parts.iter().all(|part| error.contains(part)), "{case}: {error}");
    for inside in ["struct", "Body", "panicked", "SELECT", "sqlx", "src/"] {
        assert!(!error.contains(inside), "{case}: {error}");
    }
    assert!(!error.contains(char::is_control), "{case}: {error:?}");
}

async fn assert_pages_are_sound(world: &World, pages: &[String], case: &str) {
    for page in pages {
        let answer = world.get(page).await;
        let html = String::from_utf8(answer.bytes).unwrap();
        assert_eq!(answer.status.as_u16(), 200, "{case} at {page}: {html}");
        for markup in ["<script>alert", "<img src=x", " onfocus=\"alert", "href=\"javascript:", "\0"] {
            assert!(!html.contains(markup), "{case}: {markup:?} at {page}");
        }
    }
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |encoded, byte| format!("{encoded}%{byte:02X}"))
}

on_fake_engine! {
    async fn every_field_of_a_definition_keeps_or_refuses_every_value(world: World) {
        let (mut accepted, mut refused) = (0, 0);
        for (pointer, shown, nothing) in of_definition() {
            for (name, value) in values() {
                let case = format!("{pointer} = {name}");
                let body = json!({"alias": format!("a{accepted}"), "group_name": "g", "image": "i:1", "command": "c"});
                let answer = world.post("/api/v1/task", with(body, pointer, &value)).await;
                if !answer.status.is_success() {
                    assert_refusal(&answer, pointer, &case);
                    refused += 1;
                    continue;
                }
                accepted += 1;
                let definition = answer.ok();
                let is_nothing = value.is_null() || value == json!("");
                let found = definition.pointer(shown).unwrap_or(&Value::Null);
                match is_nothing {
                    true => assert_eq!(found, &nothing, "{case}"),
                    false => assert_eq!(found, &kept(pointer, &value), "{case}"),
                }
                let id = encoded(&text(&definition["definition_id"]));
                assert_eq!(world.get(&format!("/api/v1/task/{id}")).await.ok(), definition, "{case}");
                assert_eq!(world.put(&format!("/api/v1/task/{id}"), definition.clone()).await.ok()["env"], definition["env"], "{case}");
                let pages = ["", "/edit", "/launch"].map(|page| format!("/ui/tasks/{id}{page}"));
                assert_pages_are_sound(&world, &pages, &case).await;
                world.delete(&format!("/api/v1/task/{id}")).await.ok();
            }
        }
        assert!(accepted > 100 && refused > 100, "{accepted} {refused}");
        assert_eq!(world.get("/health/ready").await.ok()["status"], "healthy");
    }

    async fn every_field_of_a_launch_keeps_or_refuses_every_value(world: World) {
        let id = world.define("launched", "exit 0").await;
        let path = format!("/api/v4/task/{id}/execute");
        let definition = world.get(&format!("/api/v1/task/{id}")).await.ok();
        let (mut accepted, mut refused) = (0, 0);
        for (pointer, shown, nothing) in of_launch() {
            for (name, value) in values() {
                let case = format!("{pointer} = {name}");
                let answer = world.put(&path, with(json!({}), pointer, &value)).await;
                if !answer.status.is_success() {
                    assert_refusal(&answer, pointer, &case);
                    refused += 1;
                    continue;
                }
                accepted += 1;
                let run = answer.ok();
                let found = run.pointer(shown).unwrap_or(&Value::Null);
                let of_definition = nothing.get("of the definition").and_then(Value::as_str).map(|field| &definition[field]);
                match value.is_null() || value == json!("") {
                    // What was not said at all and what was said to be empty may differ.
                    true => assert!(found.is_null() || found == of_definition.unwrap_or(&nothing), "{case}: {found}"),
                    false => assert_eq!(found, &kept(pointer, &value), "{case}"),
                }
                let run_id = text(&run["run_id"]);
                assert_eq!(world.history(&run_id).await[shown.split('/').nth(1).unwrap()], run[shown.split('/').nth(1).unwrap()], "{case}");
                let pages = [format!("/ui/runs/{run_id}"), format!("/ui/tasks/{id}/launch?from={run_id}")];
                assert_pages_are_sound(&world, &pages, &case).await;
            }
        }
        assert!(accepted > 100 && refused > 100, "{accepted} {refused}");
        assert_pages_are_sound(&world, &["/ui".to_owned(), "/ui/runs".to_owned(), format!("/ui/tasks/{id}")], "all").await;
    }

    async fn every_field_that_a_job_reports_keeps_or_refuses_every_value(world: World) {
        let id = world.define("reporting", "sleep 1000").await;
        for (pointer, name, value) in ["/status", "/exit_code", "/exit_reason", "/run_exceptions"].iter().flat_map(|pointer| {
            values().into_iter().map(move |(name, value)| (*pointer, name, value))
        }) {
            let case = format!("{pointer} = {name}");
            let run_id = world.launch(&id, json!({})).await;
            let body = with(json!({"status": "STOPPED", "exit_code": 3}), pointer, &value);
            let answer = world.put(&format!("/api/v6/{run_id}/status"), body).await;
            if !answer.status.is_success() {
                assert_refusal(&answer, pointer, &case);
                continue;
            }
            let run = world.history(&run_id).await;
            if !value.is_null() && value != json!("") {
                assert_eq!(run.pointer(pointer), Some(&value), "{case}");
            }
            assert_pages_are_sound(&world, &[format!("/ui/runs/{run_id}")], &case).await;
        }
    }

    async fn every_parameter_of_a_list_takes_or_refuses_every_text(world: World) {
        world.run("exit 0").await;
        let lists: [(&str, &[&str]); 5] = [
            ("/api/v1/task", &["limit", "offset", "sort_by", "order", "image", "group_name", "alias", "tag", "env"]),
            ("/api/v1/history", &["limit", "offset", "sort_by", "order", "status", "outcome", "cluster_name", "definition_id",
                "alias", "group_name", "image", "user", "env", "queued_at_since", "finished_at_until"]),
            ("/api/v1/groups", &["limit", "offset", "name"]),
            ("/api/v1/tags", &["limit", "offset", "name"]),
            ("/ui/runs", &["limit", "offset", "status", "outcome", "cluster", "task", "owner", "group_name", "image"]),
        ];
        for (path, parameters) in lists {
            for parameter in parameters {
                for (name, text) in texts() {
                    let case = format!("{path}?{parameter} = {name}");
                    let query = if text.len() > 30_000 { encoded(&text[..10_000]) } else { encoded(&text) };
                    let answer = world.get(&format!("{path}?{parameter}={query}")).await;
                    if path.starts_with("/ui") {
                        assert!(!answer.status.is_server_error(), "{case}: {answer:?}");
                        let html = String::from_utf8(answer.bytes).unwrap();
                        assert!(!html.contains("<script>alert") && !html.contains("<img src=x"), "{case}");
                    } else if !answer.status.is_success() {
                        assert_refusal(&answer, &format!("/{parameter}"), &case);
                    }
                }
            }
        }
    }

    async fn every_field_of_a_cluster_keeps_or_refuses_every_value(world: World) {
        for pointer in ["/status", "/status_reason", "/region", "/namespace", "/cluster_version", "/allowed_tiers/0", "/capabilities/0"] {
            for (name, value) in values() {
                let case = format!("{pointer} = {name}");
                let answer = world.put("/api/v6/clusters/default", with(json!({}), pointer, &value)).await;
                if !answer.status.is_success() {
                    assert_refusal(&answer, pointer, &case);
                    continue;
                }
                let cluster = world.get("/api/v6/clusters/default").await.ok();
                if !value.is_null() {
                    assert_eq!(cluster.pointer(pointer), Some(&value), "{case}");
                }
                assert_pages_are_sound(&world, &["/ui/clusters".to_owned(), "/ui/clusters/default".to_owned(), "/ui".to_owned()], &case).await;
            }
        }
    }
}
