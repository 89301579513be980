//! The description of the API, and the pages to browse it.

use std::collections::BTreeSet;

use axum::body::Body;
use serde_json::{Value, json};

use crate::world::{Options, World};

const METHODS: [&str; 4] = ["get", "post", "put", "delete"];

#[tokio::test]
async fn every_described_route_is_there_under_api_and_at_the_root() {
    let world = World::on_sqlite(Options::default()).await;
    let description = world.get("/api/openapi.json").await.ok();
    assert_eq!(description["openapi"].as_str().map(|version| &version[..3]), Some("3.1"));
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() > 30, "{}", paths.len());
    for (path, item) in paths {
        let concrete =
            path.replace("{definition_id}", "x").replace("{run_id}", "x").replace("{alias}", "x").replace("{id}", "x");
        let at_root = concrete.strip_prefix("/api").unwrap().to_owned();
        for method in METHODS {
            let is_described = item.get(method).is_some();
            for concrete in [&concrete, &at_root] {
                let answer = world.send(&method.to_uppercase(), concrete, Body::empty()).await;
                // Another route of the same shape may take what this path does not describe.
                if is_described {
                    assert_ne!(answer.status.as_u16(), 405, "{method} {concrete}");
                    if answer.status.as_u16() == 404 {
                        let error = answer.refused(404);
                        assert!(!error.starts_with("there is nothing at"), "{method} {concrete}: {error}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn every_route_of_the_two_documents_is_described() {
    let world = World::on_sqlite(Options::default()).await;
    let description = world.get("/api/openapi.json").await.ok();
    for (method, path) in [
        ("get", "/v1/task"),
        ("post", "/v1/task"),
        ("get", "/v1/task/{definition_id}"),
        ("put", "/v1/task/{definition_id}"),
        ("delete", "/v1/task/{definition_id}"),
        ("get", "/v1/task/alias/{alias}"),
        ("put", "/v1/task/alias/{alias}/execute"),
        ("put", "/v1/task/{definition_id}/execute"),
        ("put", "/v2/task/{definition_id}/execute"),
        ("put", "/v4/task/{definition_id}/execute"),
        ("get", "/v1/task/{definition_id}/history"),
        ("get", "/v1/history"),
        ("get", "/v1/history/{run_id}"),
        ("get", "/v1/task/{definition_id}/history/{run_id}"),
        ("delete", "/v1/task/{definition_id}/history/{run_id}"),
        ("get", "/v1/{run_id}/logs"),
        ("get", "/groups"),
        ("get", "/tags"),
        ("get", "/clusters"),
    ] {
        assert!(description["paths"][format!("/api{path}")][method].is_object(), "{method} {path}");
    }
}

#[tokio::test]
async fn the_description_refers_to_nothing_that_is_not_there_and_names_each_operation_once() {
    let world = World::on_sqlite(Options::default()).await;
    let description = world.get("/api/openapi.json").await.ok();
    let mut references = BTreeSet::new();
    let mut operations = Vec::new();
    walk(&description, &mut |key, value| match (key, value) {
        ("$ref", Value::String(reference)) => {
            references.insert(reference.clone());
        }
        ("operationId", Value::String(id)) => operations.push(id.clone()),
        _ => {}
    });
    assert!(references.len() > 10);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(description.pointer(pointer).is_some(), "{reference}");
    }
    let distinct: BTreeSet<_> = operations.iter().collect();
    assert_eq!(distinct.len(), operations.len());
}

fn walk(value: &Value, visit: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                visit(key, value);
                walk(value, visit);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        _ => {}
    }
}

#[tokio::test]
async fn the_pages_load_nothing_from_elsewhere() {
    let world = World::on_sqlite(Options::default()).await;
    let page = world.get("/api/docs/").await;
    assert_eq!(page.status.as_u16(), 200);
    let page = String::from_utf8(page.bytes).unwrap();
    let attributes = page.split(['"', '\'']).filter(|text| text.starts_with("http") || text.starts_with("//"));
    assert_eq!(attributes.collect::<Vec<_>>(), Vec::<&str>::new());
    for part in page.split(['"', '\'']).filter(|text| text.starts_with("./")) {
        let asset = world.get(&format!("/api/docs/{}", part.trim_start_matches("./"))).await;
        assert_eq!(asset.status.as_u16(), 200, "{part}");
    }
}

/// Each operation with its path and method.
fn operations(description: &Value) -> Vec<(String, String, Value)> {
    let mut operations = Vec::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push((path.clone(), method.clone(), operation.clone()));
        }
    }
    operations
}

#[test]
fn every_answer_and_every_operation_is_described() {
    let description = flotilla::http::openapi();
    let operations = operations(&description);
    assert!(operations.len() > 50, "{}", operations.len());
    for (path, method, operation) in operations {
        let responses = operation["responses"].as_object().unwrap();
        for (status, response) in responses {
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path} {status}");
        }
        for status in ["200", "403", "500", "503"] {
            let is_told = responses.contains_key(status) || (status == "503" && operation["tags"][0] == "health");
            assert!(is_told, "{method} {path} says nothing of {status}");
        }
        let id = operation["operationId"].as_str().unwrap();
        assert!(
            id.starts_with(|c: char| c.is_ascii_lowercase()) && id.chars().all(|c| c.is_ascii_alphanumeric()),
            "{id}"
        );
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let is_of_the_path = parameter["in"] == "path";
            assert!(is_of_the_path || parameter["description"].is_string(), "{method} {path} {parameter}");
        }
    }
}

#[test]
fn nothing_is_null_and_no_integer_is_narrower_than_what_is_read() {
    walk(&flotilla::http::openapi(), &mut |key, value| {
        assert!(!value.is_null() && *value != "null", "{key}");
        assert!(key != "type" || value.is_string(), "{value}");
        assert!(key != "format" || value != "int32");
    });
}

#[test]
fn creations_and_changes_and_launches_need_what_they_need() {
    let description = flotilla::http::openapi();
    let schemas = &description["components"]["schemas"];
    assert_eq!(schemas["DefinitionRequest"]["required"], json!(["image", "command", "group_name"]));
    assert_eq!(schemas["DefinitionUpdate"].get("required"), None);
    assert_eq!(schemas["Run"]["properties"]["outcome"]["$ref"], "#/components/schemas/Outcome");
    for (path, method, operation) in operations(&description) {
        if path.ends_with("/execute") {
            assert_eq!(operation["requestBody"]["required"], json!(false), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_list_describes_each_parameter_that_it_reads() {
    let world = World::on_sqlite(Options::default()).await;
    let definition_id = world.define("listed", "exit 0").await;
    let description = flotilla::http::openapi();
    let mut lists = 0;
    for (path, method, operation) in operations(&description) {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let described: BTreeSet<_> = parameters
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        if method != "get" || described.is_empty() || path.contains("{run_id}") {
            continue;
        }
        lists += 1;
        let concrete = path.replace("{definition_id}", &definition_id);
        let error = world.get(&format!("{concrete}?nothing_like_it=1")).await.refused(400);
        let (_, known) = error.split_once("there is ").unwrap();
        // A list below a definition reads over what its path has said.
        let of_path = |name: &&str| path.contains(&format!("{{{name}}}"));
        let known: BTreeSet<_> = known.split(", ").filter(|name| !of_path(name)).collect();
        assert_eq!(described, known, "{path}");
    }
    assert!(lists > 8, "{lists}");
}
