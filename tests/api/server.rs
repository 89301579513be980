//! The server itself: health, and where a browser lands.

use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use crate::on_every_engine;

on_every_engine! {
    async fn the_server_lives_and_is_ready(world: World) {
        for path in ["/api/v6/health", "/v6/health", "/health/live", "/health/ready", "/api/health/ready"] {
            assert_eq!(world.get(path).await.ok()["status"], "healthy", "{path}");
        }
        world.stop.cancel();
        let answer = world.get("/health/ready").await;
        assert_eq!((answer.status.as_u16(), answer.json()["message"].as_str()), (503, Some("the server is stopping")));
        world.get("/api/v6/health").await.ok();
    }

    async fn a_browser_is_led_to_the_pages(world: World) {
        let mut target = "/".to_owned();
        let mut answer = world.get(&target).await;
        while answer.status.is_redirection() {
            target = answer.headers["location"].to_str().unwrap().to_owned();
            answer = world.get(&target).await;
        }
        assert_eq!(answer.status.as_u16(), 200, "{target}");
        assert!(target.starts_with("/ui"), "{target}");
    }

    async fn a_page_of_another_site_can_change_nothing(world: World) {
        let body = json!({"alias": "planted", "group_name": "g", "image": "i:1", "command": "true"}).to_string();
        let send = async |headers: &[(&str, &str)]| {
            let mut request = Request::post("/api/v1/task").header("content-type", "text/plain");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            world.request(request.body(Body::from(body.clone())).unwrap()).await.status().as_u16()
        };
        assert_eq!(send(&[("sec-fetch-site", "cross-site")]).await, 403);
        let host = ("host", "127.0.0.1:3000");
        assert_eq!(send(&[host, ("origin", "http://evil.example")]).await, 403, "a browser that is not asked over TLS");
        world.get("/api/v1/task/alias/planted").await.refused(404);
        assert_eq!(send(&[host]).await, 200, "programs don't say where they are");
        for own in [("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:3000")] {
            assert_eq!(send(&[host, own]).await, 409, "a page of our own may; the alias is taken by now");
        }
    }

    async fn a_site_that_has_a_name_lead_here_learns_nothing(world: World) {
        for (host, expected) in [("localhost:3000", 200), ("[::1]:3000", 200), ("evil.example:3000", 403)] {
            for path in ["/api/v1/task", "/ui", "/health/live"] {
                let request = Request::get(path).header("host", host).body(Body::empty()).unwrap();
                assert_eq!(world.request(request).await.status().as_u16(), expected, "{host} {path}");
            }
        }
    }
}
