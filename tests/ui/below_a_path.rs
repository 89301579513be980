//! Pages of a server that lies below a path: every address that they hold leads below it, and to something.

use std::collections::{BTreeSet, VecDeque};

use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use crate::page::unescaped;
use crate::world::{Options, World};

const BASE: &str = "/tools/flotilla";

async fn world() -> World {
    let mut options = Options::default();
    options.origins.public_url = Some(format!("https://tools.example{BASE}/").parse().unwrap());
    World::on_sqlite(options).await
}

#[tokio::test]
async fn every_address_on_every_page_lies_below_the_path_and_leads_to_something() {
    let world = world().await;
    let id = world.define("below", "exit 1").await;
    world.put(&format!("/api/v1/task/{id}"), json!({"tags": ["a&b"], "group_name": "g/h?"})).await;
    let run = world.launch(&id, json!({"owner_id": "ada", "env": [{"name": "A", "value": "b"}]})).await;
    world.finish(&run).await;
    let child = json!({"owner_id": "ada", "env": [{"name": "PARENT_FLOTILLA_RUN_ID", "value": run}]});
    world.launch(&id, child).await;

    let mut known = BTreeSet::from([format!("{BASE}/ui"), format!("{BASE}/ui/no/such/page")]);
    let mut left: VecDeque<_> = known.iter().cloned().collect();
    while let Some(address) = left.pop_front() {
        let answer = world.visit(Request::get(&address).body(Body::empty()).unwrap()).await;
        let expected = if address.ends_with("/no/such/page") { 404 } else { 200 };
        assert_eq!(answer.status, expected, "{address}: {}", answer.html);
        if !answer.header("content-type").starts_with("text/html") || address.contains("/api/docs") {
            continue;
        }
        // A page is the same however the proxy asked for it.
        let stripped = world.visit(Request::get(&address[BASE.len()..]).body(Body::empty()).unwrap()).await;
        assert_eq!(stripped.status, expected, "{address}");
        for attribute in ["href", "src", "action", "data-live-from", "data-address"] {
            for (page, is_whole) in [(&answer, true), (&stripped, false)] {
                for value in page.between(&format!(" {attribute}=\""), "\"") {
                    let value = unescaped(value);
                    let path = value.split('#').next().unwrap().to_owned();
                    if path.is_empty() || (attribute == "href" && value.starts_with("data:")) {
                        continue;
                    }
                    assert!(path.starts_with(&format!("{BASE}/")), "{attribute}={value} on {address} ({is_whole})");
                    // What can be sorted and paged leads on without end.
                    let is_new = !path.contains("sort_by=") && path.len() < 300 && known.len() < 400;
                    if attribute != "action" && is_new && known.insert(path.clone()) {
                        left.push_back(path);
                    }
                }
            }
        }
    }
    for part in [
        "/ui/runs/",
        "/ui/tasks/",
        "/ui/clusters/",
        "/log",
        "/launch",
        "/edit",
        "/ui/assets/",
        "/api/docs/",
        "/logs?raw_text=true",
    ] {
        assert!(known.iter().any(|address| address.contains(part)), "nothing leads to {part}: {known:?}");
    }
}

#[tokio::test]
async fn forms_lead_below_the_path_and_cookies_are_for_it_alone() {
    let world = world().await;
    let id = world.define("below", "exit 0").await;
    for prefix in ["", BASE] {
        let form = format!("{prefix}/ui/tasks/{id}/launch");
        let request = Request::post(&form)
            // As nginx asks, unless it is told otherwise.
            .header("host", "127.0.0.1:3000")
            .header("origin", "https://tools.example")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from("owner=ada&action=launch"));
        let launched = world.visit(request.unwrap()).await;
        assert!(launched.leads_to().starts_with(&format!("{BASE}/ui/runs/")), "{launched:?}");
        assert!(launched.header("set-cookie").contains(&format!("; Path={BASE}/ui;")), "{launched:?}");
        for (path, expected) in [("/", "/ui"), ("/ui/", "/ui"), ("/docs", "/api/docs/"), ("/api/docs", "/api/docs/")] {
            let answer = world.get(&format!("{prefix}{path}")).await;
            assert_eq!(answer.headers["location"], format!("{BASE}{expected}"), "{prefix}{path}");
        }
        let document = world.get(&format!("{prefix}/api/openapi.json")).await.ok();
        assert_eq!(document["servers"], json!([{"url": BASE}]));
        let found = world.get(&format!("{prefix}/ui/palette?q=below")).await.ok();
        assert_eq!(found[0]["address"], format!("{BASE}/ui/tasks/{id}"));
        assert!(
            world.get(&format!("{prefix}/api/nothing")).await.refused(404).ends_with(&format!("see {BASE}/api/docs/"))
        );
    }
    let at_root = World::on_sqlite(Options::default()).await;
    assert!(at_root.get("/api/openapi.json").await.ok().get("servers").is_none());
}
