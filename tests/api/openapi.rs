//! The description of the API, and the pages to browse it.

use std::collections::BTreeSet;

use axum::body::Body;
use serde_json::Value;

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
