//! Malformed, mistyped, oversized and hostile requests: a clear refusal, and nothing stored.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::on_every_engine;
use crate::world::Options;

/// Every route that takes a body.
const WITH_BODY: [(&str, &str); 8] = [
    ("POST", "/api/v1/task"),
    ("PUT", "/api/v1/task/D"),
    ("PUT", "/api/v1/task/D/execute"),
    ("PUT", "/api/v2/task/D/execute"),
    ("PUT", "/api/v4/task/D/execute"),
    ("PUT", "/api/v1/task/alias/hostile/execute"),
    ("PUT", "/api/v1/R/status"),
    ("PUT", "/api/v6/R/status"),
];

fn small_bodies() -> Options {
    let limits = flotilla::http::Limits { body_bytes: 2000, ..Options::default().limits };
    Options { limits, ..Options::default() }
}

on_every_engine! {
    async fn hostile_texts_are_kept_as_they_are(world: World) {
        let nasty = "'; DROP TABLE runs; -- \" <script>alert(1)</script> \\ % _ 💥";
        let command = format!("{nasty}\u{202e}\n\t");
        let body = json!({"alias": nasty, "group_name": "g'\"%", "image": world.image, "command": command,
                          "tags": [nasty], "env": [{"name": "A B'\"", "value": nasty}]});
        let created = world.post("/api/v1/task", body.clone()).await.ok();
        for field in ["alias", "group_name", "image", "command", "tags", "env"] {
            assert_eq!(created[field], body[field], "{field}");
        }
        let encode = |text: &str| text.bytes().fold(String::new(), |encoded, byte| format!("{encoded}%{byte:02X}"));
        assert_eq!(world.get(&format!("/api/v1/task/alias/{}", encode(nasty))).await.ok(), created);
        let id = encode(created["definition_id"].as_str().unwrap());
        assert_eq!(world.get(&format!("/api/v1/task/{id}")).await.ok(), created);
        for query in [format!("alias={}", encode(nasty)), format!("tag={}", encode(nasty)), format!("env={}", encode(&format!("A B'\"|{nasty}")))] {
            assert_eq!(world.get(&format!("/api/v1/task?{query}")).await.ok()["total"], 1, "{query}");
        }
        let run = world.put(&format!("/api/v1/task/{id}/execute"), json!({})).await.ok();
        assert_eq!(run["command"], body["command"]);
    }

    async fn names_that_look_the_same_are_refused(world: World) {
        let whole = json!({"alias": "dep", "group_name": "g", "image": world.image, "command": "c"});
        let created = world.post("/api/v1/task", whole.clone()).await.ok();
        for alias in ["dep\u{fe0f}", "dep\u{180b}", "dep\u{e0100}", "d\u{a0}ep", "d\u{2003}ep", "dep\u{3000}", "\u{fe0f}dep"] {
            let mut body = whole.clone();
            body["alias"] = json!(alias);
            let error = world.post("/api/v1/task", body).await.refused(400);
            assert!(error.starts_with("`alias` must not"), "{error}");
        }
        let path = format!("/api/v4/task/{}/execute", created["definition_id"].as_str().unwrap());
        for (field, name) in [("owner_id", "ada "), ("owner_email", " "), ("owner_id", "\u{3000}"), ("owner_id", "ada\u{fe0f}")] {
            let error = world.put(&path, json!({"run_tags": {field: name}})).await.refused(400);
            assert!(error.starts_with(&format!("`run_tags.{field}` must not")), "{error}");
        }
        for field in ["arch", "tier", "service_account", "idempotence_key"] {
            let error = world.put(&path, json!({"run_tags": {"owner_id": "ada"}, field: " a"})).await.refused(400);
            assert!(error.starts_with(&format!("`{field}` must not begin")), "{error}");
        }
        // A symbol may say that it is an emoji.
        let mut body = whole.clone();
        body["alias"] = json!("\u{2764}\u{fe0f} dep");
        world.post("/api/v1/task", body).await.ok();
    }

    async fn filters_have_a_bound_in_number_and_length(world: World) {
        let definition_id = world.define("filtered", "exit 0").await;
        let long = "x".repeat(1025);
        let patterns = "%25_".repeat(500);
        let lists = ["v1/task?alias=", "v1/task?env=A|", "v1/history?env=A|", "v6/history?image=", "v1/groups?name=", "v1/tags?name=", "v6/task?tag="];
        for list in lists.map(str::to_owned).into_iter().chain([format!("v1/task/{definition_id}/history?env=A|")]) {
            let name = list.split(['?', '=']).nth(1).unwrap();
            let error = world.get(&format!("/api/{list}{long}")).await.refused(400);
            assert!(error.contains(&format!("`{name}` must be at most 1024 characters long")), "{error}");
            let again = format!("&{}", list.split_once('?').unwrap().1);
            let error = world.get(&format!("/api/{list}1{}", format!("{again}2").repeat(50))).await.refused(400);
            assert!(error.contains(&format!("`{name}` may be given at most 50 times")), "{error}");
            world.get(&format!("/api/{list}{patterns}")).await.ok();
            if !list.contains("name") {
                world.get(&format!("/api/{list}1{}", format!("{again}2").repeat(49))).await.ok();
            }
        }
        for page in ["/ui/tasks?tag=1", "/ui/runs?image=1"] {
            let again = page.split_once('?').unwrap().1;
            assert_eq!(world.get(&format!("{page}{}", format!("&{again}").repeat(50))).await.status.as_u16(), 400, "{page}");
        }
        let many = ["image", "owner", "group_name"].map(|name| format!("&{name}=1").repeat(40)).concat();
        let refused = world.get(&format!("/ui/runs?limit=5{many}")).await;
        assert!(refused.status.as_u16() == 400 && refused.bytes.len() < 100_000);
        assert!(world.get("/api/v1/groups?name=a&name=b").await.refused(400).contains("`name` may be given only once"));
    }

    async fn a_parameter_is_refused_where_there_is_none(world: World) {
        let definition_id = world.define("single", "exit 0").await;
        let run_id = world.launch(&definition_id, json!({})).await;
        for path in [
            format!("/api/v1/task/{definition_id}"),
            "/api/v1/task/alias/single".to_owned(),
            format!("/api/v1/history/{run_id}"),
            format!("/v6/{run_id}/status"),
            format!("/api/v1/{run_id}/events"),
            "/api/v1/clusters".to_owned(),
            "/clusters".to_owned(),
            "/api/v6/clusters/default".to_owned(),
            "/api/v6/health".to_owned(),
        ] {
            assert!(world.get(&format!("{path}?foo=1")).await.refused(400).contains("`foo` is no parameter here"), "{path}");
            assert_ne!(world.get(&format!("{path}?_=1")).await.status.as_u16(), 400, "{path}");
        }
        let body = json!({"command": "echo"});
        world.put(&format!("/api/v1/task/{definition_id}/execute?foo=1"), body).await.refused(400);
    }

    async fn a_body_that_is_no_json_object_is_refused_everywhere(world: World) {
        let definition_id = world.define("hostile", "exit 0").await;
        let run_id = world.launch(&definition_id, json!({})).await;
        let before = (world.get("/api/v1/task").await.ok(), world.get("/api/v1/history").await.ok());
        let deep = "[".repeat(100_000);
        let deep_object = "{\"a\":".repeat(5_000);
        for (method, path) in WITH_BODY {
            let path = path.replace('D', &definition_id).replace("/R/", &format!("/{run_id}/"));
            for body in ["{", "nonsense", "[]", "\"text\"", "null", "5", "{\"env\": 5}x", "{'a': 1}", "\u{feff}{}", &deep, &deep_object] {
                let error = world.send(method, &path, body.to_owned()).await.refused(400);
                assert!(!error.is_empty());
            }
            world.send(method, &path, vec![0xff, 0xfe, 0x00]).await.refused(400);
        }
        assert_eq!((world.get("/api/v1/task").await.ok(), world.get("/api/v1/history").await.ok()), before);
    }

    async fn mistyped_fields_are_named_with_their_value(world: World) {
        let whole = json!({"alias": "a", "group_name": "g", "image": "i", "command": "c"});
        for (field, value, expected) in [
            ("memory", json!("512"), "`memory`: invalid type: string \"512\", expected an integer (megabytes)"),
            ("memory", json!(1.5), "`memory`: invalid type: floating point `1.5`"),
            ("memory", json!(-5), "`memory` must be between 0 and 1073741824, not -5"),
            ("cpu", json!(1e300), "`cpu`"),
            ("memory", json!(18_446_744_073_709_551_615_u64), "`memory`"),
            ("gpu", json!([]), "`gpu`: invalid type: array, expected an integer"),
            ("env", json!({"A": "1"}), "`env`: invalid type: object, expected an array"),
            ("env", json!([{"value": "x"}]), "`env[0]`: missing field `name`"),
            ("env", json!([{"name": "A", "value": 5}]), "`env[0].value`: invalid type: integer `5`"),
            ("env", json!([{"name": "", "value": "x"}]), "`env[0].name` must not be empty"),
            ("env", json!([{"name": "A", "value": "a\0b"}]), "`env[0].value` must not hold a NUL character"),
            ("tags", json!("x"), "`tags`: invalid type: string \"x\""),
            ("tags", json!(["", "x"]), "`tags[0]` must not be empty"),
            ("tags", json!(["a\u{0}b"]), "`tags[0]` must not hold control characters"),
            ("ports", json!([0]), "`ports[0]` must be between 1 and 65535, not 0"),
            ("ports", json!([99999]), "`ports[0]` must be between 1 and 65535, not 99999"),
            ("alias", json!(5), "`alias`: invalid type: integer `5`"),
            ("alias", json!("a\u{0}"), "`alias` must not hold control characters: \"a\\0\""),
            ("alias", json!("x".repeat(256)), "`alias` is 256 bytes long, at most 255 are allowed"),
            ("group_name", json!("a/b"), "`group_name` must not hold `/`"),
            ("group_name", json!(" "), "`group_name` is required"),
            ("image", json!("two words"), "`image` must not hold white space"),
            ("image", json!("../containers/NAME/json?a=:x"), "`image` is not an image reference"),
            ("image", json!("Team/Upper:1"), "`image` is not an image reference: the repository's path must be in lowercase"),
            ("image", json!("https://h.example.com/a:1"), "`image` must begin with a registry or a repository"),
            ("image", json!(""), "`image` is required"),
            ("command", json!("a\0b"), "`command` must not hold a NUL character"),
            ("command", json!("x".repeat(200_000)), "`command` is 200000 bytes long, at most 130048 are allowed"),
            ("privileged", json!("yes"), "`privileged`: invalid type: string \"yes\""),
        ] {
            let mut body = whole.clone();
            body[field] = value;
            let error = world.post("/api/v1/task", body).await.refused(400);
            assert!(error.contains(expected), "{field}: {error}");
        }
        assert_eq!(world.get("/api/v1/task").await.ok()["total"], 0);
    }

    async fn paths_that_can_not_exist_are_refused_in_json(world: World) {
        for (method, path, status) in [
            ("GET", "/api/v1/nothing", 404), ("GET", "/nothing/at/all", 404), ("GET", "/api/v1/task/x/y/z/w", 404),
            ("GET", "/api/v1/task/%00", 400), ("GET", "/api/v1/task/%ff", 400), ("GET", "/api/v1/history/%00", 400),
            ("GET", "/api/v1/task/alias/%2e%2e%2f%2e%2e%2fetc", 404), ("GET", "/api/v1/..%2f..%2fetc/logs", 404),
            ("PATCH", "/api/v1/task", 405), ("DELETE", "/api/v1/history", 405), ("POST", "/v1/clusters", 405),
            ("GET", "/api/v1/task/x/execute", 405), ("PUT", "/api/v1/x/logs", 405),
        ] {
            let error = world.send(method, path, Body::empty()).await.refused(status);
            assert!(!error.is_empty(), "{method} {path}");
        }
        let allowed = world.send("PATCH", "/api/v1/task", Body::empty()).await;
        let allow = allowed.headers["allow"].to_str().unwrap();
        assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    }

    async fn every_answer_names_its_request(world: World) {
        let given = Request::get("/api/v1/clusters").header("x-request-id", "mine-1").body(Body::empty()).unwrap();
        assert_eq!(world.request(given).await.headers()["x-request-id"], "mine-1");
        assert_eq!(world.get("/nothing").await.headers["x-request-id"].len(), 36);
    }

    async fn a_body_beyond_the_limit_is_refused_whether_it_tells_its_size_or_not(world: World = small_bodies()) {
        let body = |size: usize| {
            let whole =
                json!({"alias": "a", "group_name": "g", "image": "i", "command": "", "description": ""}).to_string();
            whole.replace("\"command\":\"\"", &format!("\"command\":\"{}\"", "x".repeat(size - whole.len())))
        };
        assert_eq!(body(2000).len(), 2000);
        world.send("POST", "/api/v1/task", body(2000)).await.ok();
        let error = world.send("POST", "/api/v1/task", body(2001)).await.refused(413);
        assert_eq!(error, "the body is too large: at most 2000 bytes are read");
        let pieces = (0..30).map(|_| Ok::<_, std::io::Error>("x".repeat(100)));
        world.send("POST", "/api/v1/task", Body::from_stream(futures_util::stream::iter(pieces))).await.refused(413);
        assert_eq!(world.get("/api/v1/task").await.ok()["total"], 1);
    }

    async fn whatever_a_field_holds_the_answer_is_no_failure_of_ours(world: World) {
        let id = world.define("any", "exit 0").await;
        let values: [Value; 12] = [
            json!(null),
            json!(true),
            json!(0),
            json!(-1),
            json!(9_223_372_036_854_775_807_i64),
            json!(1.5),
            json!(""),
            json!("x"),
            json!([]),
            json!([[]]),
            json!({}),
            json!({"name": {}}),
        ];
        let of_definition = [
            "alias",
            "group_name",
            "image",
            "command",
            "env",
            "environment",
            "memory",
            "cpu",
            "gpu",
            "tags",
            "user",
            "ephemeral_storage",
            "ports",
            "adaptive_resource_allocation",
            "privileged",
            "task_type",
            "definition_id",
        ];
        let of_launch = [
            "cluster",
            "env",
            "run_tags",
            "command",
            "image",
            "memory",
            "cpu",
            "gpu",
            "ephemeral_storage",
            "node_lifecycle",
            "active_deadline_seconds",
            "labels",
            "idempotence_key",
            "description",
            "arch",
            "tier",
            "service_account",
            "engine",
        ];
        let of_status = ["status", "exit_code", "exit_reason", "run_exceptions"];
        let run_id = world.launch(&id, json!({})).await;
        let mut sent = 0;
        for value in values {
            let requests = of_definition
                .map(|field| ("POST", "/api/v1/task".to_owned(), field))
                .into_iter()
                .chain(of_definition.map(|field| ("PUT", format!("/api/v1/task/{id}"), field)))
                .chain(of_launch.map(|field| ("PUT", format!("/api/v4/task/{id}/execute"), field)))
                .chain(of_status.map(|field| ("PUT", format!("/api/v1/{run_id}/status"), field)));
            for (method, path, field) in requests {
                let answer = world.send(method, &path, json!({field: value}).to_string()).await;
                assert!(answer.status.as_u16() < 500, "{method} {path} {field} = {value}: {answer:?}");
                answer.json();
                sent += 1;
            }
        }
        assert_eq!(sent, 12 * (17 + 17 + 18 + 4));
    }
}
