//! Fields without a value: what docs/api.md says of each, in its table, and that it says something of each.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use serde_json::{Value, json};

use crate::on_every_engine;

/// What the table says: by noun and field, what stands there where there is no value.
fn table() -> BTreeMap<(String, String), String> {
    let text = include_str!("../../docs/api.md");
    let mut table = BTreeMap::new();
    let (_, rows) = text.split_once("| --- | --- | --- | --- |\n").unwrap();
    for row in rows.lines().take_while(|line| line.starts_with('|')) {
        let [fields, nouns, value] = row.split('|').skip(1).take(3).map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{row}")
        };
        for field in fields.split(", ") {
            for noun in nouns.split(", ") {
                let key = (noun.to_owned(), field.trim_matches('`').to_owned());
                assert!(table.insert(key, value.trim_matches('`').to_owned()).is_none(), "{row}");
            }
        }
    }
    table
}

/// The nouns of the table, and the schemas that describe them.
const NOUNS: [(&str, &str); 4] =
    [("definition", "Definition"), ("run", "Run"), ("status", "RunStatus"), ("cluster", "Cluster")];

#[test]
fn the_table_has_every_field_that_may_be_left_out_and_no_other() {
    let description = flotilla::http::openapi();
    for (noun, schema) in NOUNS {
        let schema = &description["components"]["schemas"][schema];
        let needed: BTreeSet<_> =
            schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let all = schema["properties"].as_object().unwrap().keys().map(String::as_str);
        let optional: BTreeSet<_> = all.filter(|name| !needed.contains(name)).collect();
        let table = table();
        let told: BTreeSet<_> = table
            .iter()
            .filter(|((of, _), value)| of == noun && *value == "left out")
            .map(|((_, field), _)| field.as_str())
            .collect();
        assert_eq!(told, optional, "{noun}");
    }
}

on_every_engine! {
    async fn a_field_without_a_value_is_answered_as_the_table_says(world: World) {
        let body = json!({"group_name": "g", "image": world.image, "command": "exit 0"});
        let definition = world.post("/api/v1/task", body).await.ok();
        let id = definition["definition_id"].as_str().unwrap();
        let launched = world.send("PUT", &format!("/api/v1/task/{id}/execute"), Body::empty()).await.ok();
        let run_id = launched["run_id"].as_str().unwrap();
        let listed = world.get("/api/v1/history").await.ok()["history"][0].clone();
        let status = world.get(&format!("/api/v6/{run_id}/status")).await.ok();
        let definitions = world.get("/api/v6/task").await.ok()["definitions"].clone();
        for (noun, found) in [
            ("definition", &definition), ("definition", &definitions[0]), ("run", &launched), ("run", &listed), ("status", &status),
        ] {
            for ((_, field), value) in table().iter().filter(|((of, _), _)| of == noun) {
                let expected = match value.as_str() {
                    "left out" => None,
                    // The server's own variables.
                    "[]" if (noun, field.as_str()) == ("run", "env") => found.get("environment").cloned(),
                    text => Some(serde_json::from_str::<Value>(text).unwrap()),
                };
                assert_eq!(found.get(field).cloned(), expected, "{field} of {noun}: {found}");
            }
        }
        let single = world.history(run_id).await;
        assert_eq!(single["spawned_runs"], json!([]));
        assert!(single["pod_events"].as_array().is_some_and(|events| !events.is_empty()));
    }

    async fn no_answer_holds_null(world: World) {
        let id = world.define("whole", "echo hello; exit 3").await;
        let run_id = world.launch(&id, json!({})).await;
        let mut answers = 0;
        for _ in 0..2 {
            for path in [
                format!("/api/v1/task/{id}"), "/api/v1/task".to_owned(), format!("/api/v1/history/{run_id}"),
                "/api/v1/history?env=A%7Cb&env=A%7Cc&limit=1".to_owned(), "/api/v1/history".to_owned(),
                format!("/api/v1/task/{id}/history"), format!("/api/v1/{run_id}/events"), format!("/api/v1/{run_id}/status"),
                format!("/api/v1/{run_id}/logs"), "/api/v1/groups".to_owned(), "/api/v1/tags".to_owned(),
                "/api/v1/clusters".to_owned(), "/api/v6/clusters".to_owned(), "/api/v6/health".to_owned(),
            ] {
                let answer = world.get(&path).await.ok();
                assert!(!holds_null(&answer), "{path}: {answer}");
                answers += 1;
            }
            world.finish(&run_id).await;
        }
        assert_eq!(answers, 28);
        let ended = world.history(&run_id).await;
        assert_eq!((&ended["exit_code"], &ended["outcome"]), (&json!(3), &json!("failed")));
        assert!(ended["finished_at"].is_string() && ended["exit_reason"].is_string());
    }
}

fn holds_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(holds_null),
        Value::Object(fields) => fields.values().any(holds_null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
