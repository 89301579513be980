//! What other clients need, and what browsers must not do: parameters, origins, headers. No engine has a part in it.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::on_fake_engine;
use crate::world::{Options, each};

on_fake_engine! {
    async fn runs_are_found_by_when_they_were_queued_started_and_finished(world: World) {
        let ended = world.run("exit 0").await;
        let run = world.finish(&ended).await;
        let waiting = world.run("exit 0").await;
        let times = |name: &str| run[name].as_str().unwrap().to_owned();
        for (query, expected) in [
            (format!("queued_at_since={}", times("queued_at")), vec![&waiting, &ended]),
            (format!("queued_at_until={}", times("queued_at")), vec![]),
            (format!("started_at_since={}", times("started_at")), vec![&ended]),
            ("started_at_since=2000-01-01T00:00:00%2B02:00".to_owned(), vec![&ended]),
            ("started_at_until=2000-01-01T00:00:00Z".to_owned(), vec![]),
            (format!("finished_at_since={}&status=STOPPED", times("finished_at")), vec![&ended]),
            (format!("finished_at_since={}&status=QUEUED", times("finished_at")), vec![]),
            (format!("finished_at_until={}", times("finished_at")), vec![]),
        ] {
            let list = world.get(&format!("/api/v1/history?{query}")).await.ok();
            let count = expected.len();
            assert_eq!((each(&list["history"], "run_id"), &list["total"]), (expected.into_iter().cloned().collect::<Vec<_>>(), &json!(count)), "{query}");
        }
        for wrong in ["started_at_since=yesterday", "queued_at_until=2026-01-31", "finished_at_since=1732665600"] {
            let error = world.get(&format!("/api/v1/history?{wrong}")).await.refused(400);
            assert!(error.contains("must be a time such as 2026-01-31T12:00:00Z"), "{error}");
        }
    }

    async fn what_has_not_started_comes_last_whichever_way_runs_are_sorted_by_their_start(world: World) {
        let first = world.run("exit 0").await;
        world.finish(&first).await;
        let second = world.run("exit 0").await;
        world.finish(&second).await;
        let (third, fourth) = (world.run("exit 0").await, world.run("exit 0").await);
        let ids = async |query: &str| {
            let list = world.get(&format!("/api/v1/history?{query}")).await.ok();
            assert_eq!(list["total"], 4);
            each(&list["history"], "run_id")
        };
        for field in ["started_at", "finished_at"] {
            let down = ids(&format!("sort_by={field}&order=desc")).await;
            assert_eq!(down[..2], [second.clone(), first.clone()], "{field}");
            let up = ids(&format!("sort_by={field}&order=asc")).await;
            assert_eq!(up[..2], [first.clone(), second.clone()], "{field}");
            // Page by page the same, wherever a page ends.
            for limit in 1..4 {
                let mut paged = Vec::new();
                for offset in (0..4).step_by(limit) {
                    paged.extend(ids(&format!("sort_by={field}&order=desc&limit={limit}&offset={offset}")).await);
                }
                assert_eq!(paged, down, "{field} by {limit}");
            }
        }
        let mut waiting = ids("sort_by=started_at&order=desc").await.split_off(2);
        waiting.sort();
        let mut expected = vec![third, fourth];
        expected.sort();
        assert_eq!(waiting, expected);
        for sort in ["cluster_name", "engine"] {
            ids(&format!("sort_by={sort}")).await;
        }
    }

    async fn parameters_that_begin_with_an_underscore_say_nothing(world: World) {
        world.define("busted", "true").await;
        for path in ["/api/v1/task", "/api/v1/history", "/api/v1/groups", "/api/v6/clusters", "/ui/tasks"] {
            let answer = world.get(&format!("{path}?_=1732665600&_ga=x")).await;
            assert_eq!(answer.status.as_u16(), 200, "{path}");
        }
        let list = world.get("/api/v1/task?_=1&alias=busted").await.ok();
        assert_eq!((&list["total"], list.get("_")), (&Value::from(1), None));
    }

    async fn a_page_on_another_port_of_this_host_can_change_nothing(world: World) {
        let body = json!({"alias": "planted", "group_name": "g", "image": "i:1", "command": "true"}).to_string();
        for (site, origin) in [
            ("same-site", Some("http://127.0.0.1:8000")),
            ("same-site", Some("null")),
            ("same-site", None),
            ("of-a-later-browser", None),
        ] {
            let mut request = Request::post("/api/v1/task").header("host", "127.0.0.1:3000").header("sec-fetch-site", site);
            if let Some(origin) = origin {
                request = request.header("origin", origin);
            }
            let answer = world.request(request.body(Body::from(body.clone())).unwrap()).await;
            assert_eq!(answer.status().as_u16(), 403, "{site} {origin:?}");
        }
        world.get("/api/v1/task/alias/planted").await.refused(404);
    }

    async fn a_site_that_is_let_in_uses_the_whole_api_from_a_browser(world: World = let_in()) {
        let site = "https://ui.example";
        let ask = async |method: &str, path: &str, origin: &str, body: String| {
            let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1:3000");
            let request = request.header("origin", origin).header("sec-fetch-site", "cross-site");
            let request = match method {
                "OPTIONS" => request.header("access-control-request-method", "PUT").header("access-control-request-headers", "content-type"),
                _ => request,
            };
            world.request(request.body(Body::from(body)).unwrap()).await
        };
        let preflight = ask("OPTIONS", "/api/v1/task", site, String::new()).await;
        assert_eq!(preflight.status().as_u16(), 200);
        let said = |name: &str| preflight.headers()[name].to_str().unwrap().to_ascii_lowercase();
        assert_eq!(said("access-control-allow-origin"), site);
        assert!(said("access-control-allow-methods").contains("put") && said("access-control-allow-methods").contains("delete"));
        assert!(said("access-control-allow-headers").contains("content-type"));
        let task = json!({"alias": "planted", "group_name": "g", "image": "i:1", "command": "true"}).to_string();
        for (method, path, body, status) in [
            ("POST", "/api/v1/task", task.clone(), 200),
            ("GET", "/api/v1/task", String::new(), 200),
            ("GET", "/api/v1/task/nothing", String::new(), 404),
        ] {
            let answer = ask(method, path, site, body).await;
            assert_eq!(answer.status().as_u16(), status, "{method} {path}");
            assert_eq!(answer.headers()["access-control-allow-origin"], site, "{method} {path}");
        }
        for origin in ["https://evil.example", "http://ui.example", "https://ui.example:8443", "null"] {
            let answer = ask("POST", "/api/v1/task", origin, task.clone()).await;
            assert_eq!(answer.status().as_u16(), 403, "{origin}");
            assert!(!answer.headers().contains_key("access-control-allow-origin"), "{origin}");
        }
        // Forms of pages are the pages' own.
        assert_eq!(ask("POST", "/ui/tasks/new", site, String::new()).await.status().as_u16(), 403);
    }

    async fn no_answer_can_be_framed_sniffed_or_kept(world: World) {
        for (path, kept) in [
            ("/api/v1/task", "no-store"),
            ("/v1/history", "no-store"),
            ("/api/v1/task/nothing", "no-store"),
            ("/api/v1/history?limit=x", "no-store"),
            ("/nothing/here", "no-store"),
            ("/health/live", "no-store"),
            ("/ui", "private, no-cache"),
            ("/ui/nothing", "private, no-cache"),
        ] {
            let headers = world.get(path).await.headers;
            assert_eq!(headers["cache-control"], kept, "{path}");
        }
        for path in ["/api/v1/task", "/api/v1/task/nothing", "/api/docs/", "/api/openapi.json", "/", "/ui", "/nothing"] {
            let headers = world.get(path).await.headers;
            assert_eq!(headers["x-frame-options"], "DENY", "{path}");
            assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
            assert!(headers["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'"), "{path}");
        }
    }
}

fn let_in() -> Options {
    let mut options = Options::default();
    options.origins.cors = flotilla::model::CorsOrigins::These(vec!["https://ui.example".to_owned()]);
    options
}
