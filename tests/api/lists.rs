//! Lists: pages, orders and filters, and what the answer repeats of them.

use serde_json::{Value, json};

use crate::on_every_engine;
use crate::world::{World, each};

async fn five_definitions(world: &World) {
    for (alias, group, image, tags) in [
        ("alpha", "one", "img:1", vec!["red"]),
        ("Beta", "one", "img:2", vec!["red", "blue"]),
        ("gamma_1", "two", "img:1", vec![]),
        ("gamma%2", "two", "img:3", vec!["blue"]),
        ("delta", "three", "img:1", vec!["green"]),
    ] {
        let body = json!({"alias": alias, "group_name": group, "image": image, "command": "c", "tags": tags,
                          "env": [{"name": "ALIAS", "value": alias}], "memory": alias.len()});
        world.post("/api/v1/task", body).await.ok();
    }
}

on_every_engine! {
    async fn definitions_are_filtered(world: World) {
        five_definitions(&world).await;
        for (query, expected) in [
            ("", vec!["Beta", "alpha", "delta", "gamma%2", "gamma_1"]),
            ("image=img:1", vec!["alpha", "delta", "gamma_1"]),
            ("image=img:1&image=img:3", vec!["alpha", "delta", "gamma%2", "gamma_1"]),
            ("group_name=one", vec!["Beta", "alpha"]),
            ("group_name=on", vec![]),
            ("alias=ETA", vec!["Beta"]),
            ("alias=gamma_", vec!["gamma_1"]),
            ("alias=%25", vec!["gamma%2"]),
            ("alias=lta&alias=alp", vec!["alpha", "delta"]),
            ("tag=red", vec!["Beta", "alpha"]),
            ("tags=blue&group_name=one", vec!["Beta"]),
            ("tag=green&tag=blue", vec!["Beta", "delta", "gamma%2"]),
            ("env=ALIAS|delta", vec!["delta"]),
            ("env=ALIAS|delt", vec![]),
            ("alias=", vec!["Beta", "alpha", "delta", "gamma%2", "gamma_1"]),
        ] {
            let list = world.get(&format!("/api/v1/task?sort_by=alias&{query}")).await.ok();
            assert_eq!(each(&list["definitions"], "alias"), expected, "{query}");
            assert_eq!(list["total"], expected.len(), "{query}");
        }
    }

    async fn the_answer_repeats_what_it_was_asked(world: World) {
        five_definitions(&world).await;
        let list = world.get("/v1/task").await.ok();
        assert_eq!((&list["limit"], &list["offset"], &list["sort_by"], &list["order"]),
                   (&json!(1024), &json!(0), &json!("group_name"), &json!("asc")));
        let list = world.get("/api/v6/task?limit=2&offset=1&sort_by=memory&order=desc&group_name=two&image=img:1&image=img:3").await.ok();
        assert_eq!((&list["limit"], &list["offset"], &list["sort_by"], &list["order"]), (&json!(2), &json!(1), &json!("memory"), &json!("desc")));
        assert_eq!((&list["group_name"], &list["image"]), (&json!("two"), &json!(["img:1", "img:3"])));
        assert_eq!(list["total"], 2);
        assert_eq!(list["definitions"].as_array().unwrap().len(), 1);
    }

    async fn pages_hold_every_row_once_in_every_order(world: World) {
        five_definitions(&world).await;
        for sort_by in ["alias", "group_name", "image", "memory", "cpu", "task_type", "definition_id", "created_at", "updated_at"] {
            for order in ["asc", "desc"] {
                let mut seen = Vec::new();
                for offset in 0..5 {
                    let path = format!("/api/v1/task?limit=1&offset={offset}&sort_by={sort_by}&order={order}");
                    seen.extend(each(&world.get(&path).await.ok()["definitions"], "alias"));
                }
                let whole = world.get(&format!("/api/v1/task?sort_by={sort_by}&order={order}")).await.ok();
                assert_eq!(seen, each(&whole["definitions"], "alias"), "{sort_by} {order}");
                seen.sort();
                seen.dedup();
                assert_eq!(seen.len(), 5, "{sort_by} {order}");
            }
        }
        assert_eq!(world.get("/api/v1/task?limit=0").await.ok()["definitions"], json!([]));
        assert_eq!(world.get("/api/v1/task?offset=4000000000").await.ok()["definitions"], json!([]));
    }

    async fn runs_are_filtered_and_sorted(world: World) {
        let first = world.define("first", "exit 0").await;
        let second = world.define("second", "sleep 100").await;
        let owned = |owner: &str, cluster: &str| json!({"run_tags": {"owner_id": owner}, "cluster": cluster,
                                                        "env": [{"name": "N", "value": owner}]});
        let mut ids = Vec::new();
        for (definition, owner, cluster) in [(&first, "ada", "default"), (&second, "bob", "default"), (&first, "bob", "idle")] {
            world.advance(jiff::SignedDuration::from_secs(1));
            ids.push(world.launch(definition, owned(owner, cluster)).await);
            if definition == &first && cluster == "default" {
                world.finish(&ids[0]).await;
            }
        }
        world.step_until(&ids[1], |run| run["status"] == "RUNNING").await;
        let (a, b, c) = (ids[0].as_str(), ids[1].as_str(), ids[2].as_str());
        let by_image = format!("image={}&user=bob", world.image);
        for (query, expected) in [
            ("", vec![c, b, a]),
            ("order=asc", vec![a, b, c]),
            ("status=RUNNING", vec![b]),
            ("status=STOPPED&status=QUEUED", vec![c, a]),
            ("outcome=succeeded", vec![a]),
            ("outcome=failed&outcome=stopped", vec![]),
            ("outcome=failed&outcome=succeeded&user=ada", vec![a]),
            ("outcome=succeeded&status=RUNNING", vec![]),
            ("cluster_name=idle", vec![c]),
            ("alias=first", vec![c, a]),
            ("alias=firs", vec![]),
            ("group_name=testing", vec![c, b, a]),
            (by_image.as_str(), vec![c, b]),
            ("env=N|ada", vec![a]),
            ("env=N|ada&env=N|bob", vec![]),
            ("sort_by=started_at&order=asc", vec![a, b, c]),
            ("sort_by=exit_code&order=desc", vec![a, c, b]),
            ("limit=1&offset=1", vec![b]),
        ] {
            for path in ["/api/v1/history", "/v1/history", "/api/v6/history"] {
                let list = world.get(&format!("{path}?{query}")).await.ok();
                assert_eq!(each(&list["history"], "run_id"), expected, "{path} {query}");
                let total = if query.starts_with("limit") { 3 } else { expected.len() };
                assert_eq!(list["total"], total, "{path} {query}");
            }
        }
        let list = world.get("/api/v1/history?env=N|ada&status=STOPPED&status=RUNNING").await.ok();
        assert_eq!(list["env_filters"], json!({"N": "ada"}));
        assert_eq!(list["status"], json!(["STOPPED", "RUNNING"]));
        let of_first = world.get(&format!("/api/v1/task/{first}/history?status=QUEUED")).await.ok();
        assert_eq!(each(&of_first["history"], "run_id"), [c]);
        assert_eq!((&of_first["definition_id"], &of_first["status"], &of_first["total"]), (&json!(first), &json!("QUEUED"), &json!(1)));
        for sort_by in ["queued_at", "started_at", "finished_at", "status", "alias", "group_name", "image", "cluster", "user",
                        "exit_code", "memory", "cpu", "definition_id", "run_id"] {
            let list = world.get(&format!("/api/v1/history?sort_by={sort_by}")).await.ok();
            assert_eq!(list["total"], 3, "{sort_by}");
        }
    }

    async fn a_total_counts_what_the_filters_let_through_at_every_step_of_a_life(world: World) {
        let definitions = [world.define("first", "exit 0").await, world.define("second", "sleep 100").await];
        let mut ids = Vec::new();
        for (i, (owner, cluster)) in [("ada", "default"), ("bob", "default"), ("ada", "idle")].into_iter().cycle().take(9).enumerate() {
            let body = json!({"run_tags": {"owner_id": owner}, "cluster": cluster});
            ids.push(world.launch(&definitions[i % 2], body).await);
        }
        let statuses = ["", "&status=STOPPED", "&status=RUNNING", "&status=QUEUED&status=PENDING", "&status=STOPPED&status=QUEUED",
                        "&outcome=succeeded", "&outcome=stopped&outcome=failed", "&outcome=stopped&status=QUEUED"];
        let fields = ["", "&user=ada", "&alias=first", "&alias=none", "&cluster_name=default", "&cluster_name=idle&cluster_name=default",
                      "&user=ada&user=bob&alias=second", "&group_name=testing&image=busybox:1"];
        for step in ["launched", "some ended", "one stopped before it started"] {
            match step {
                "some ended" => drop(world.finish(&ids[0]).await),
                "one stopped before it started" => {
                    world.delete(&format!("/api/v1/task/{}/history/{}", definitions[0], ids[2])).await.ok();
                }
                _ => {}
            }
            for status in statuses {
                for field in fields {
                    let list = world.get(&format!("/api/v1/history?{status}{field}")).await.ok();
                    let runs = list["history"].as_array().unwrap();
                    assert_eq!(list["total"], runs.len(), "{status}{field}, {step}");
                }
            }
        }
        let stopped = world.get("/api/v1/history?status=STOPPED&limit=1").await.ok();
        assert!(stopped["total"].as_u64() > Some(1), "{stopped}");
    }

    async fn groups_tags_and_clusters_are_listed_at_every_path(world: World) {
        five_definitions(&world).await;
        for prefix in ["", "/v1", "/v6", "/api", "/api/v1", "/api/v6"] {
            let groups = world.get(&format!("{prefix}/groups")).await.ok();
            assert_eq!((&groups["groups"], &groups["total"]), (&json!(["one", "three", "two"]), &json!(3)), "{prefix}");
            let tags = world.get(&format!("{prefix}/tags?name=E&limit=2&offset=1")).await.ok();
            assert_eq!((&tags["tags"], &tags["total"], &tags["name"]), (&json!(["green", "red"]), &json!(3), &json!("E")), "{prefix}");
            assert_eq!((&tags["limit"], &tags["offset"]), (&json!(2), &json!(1)));
        }
        for path in ["/clusters", "/v1/clusters", "/api/clusters", "/api/v1/clusters"] {
            assert_eq!(world.get(path).await.ok(), json!({"clusters": ["default", "idle"]}));
        }
    }

    async fn parameters_that_can_not_be_read_are_named(world: World) {
        for (path, expected) in [
            ("/api/v1/task?limit=-1", "`limit` must be a whole number that is not negative, not \"-1\""),
            ("/api/v1/task?limit=ten", "not \"ten\""),
            ("/api/v1/task?offset=1.5", "`offset` must be a whole number"),
            ("/api/v1/task?sort_by=colour", "`sort_by` \"colour\" is none of alias"),
            ("/api/v1/task?order=up", "`order` must be asc or desc, not \"up\""),
            ("/api/v1/task?env=A", "`env` must be NAME|VALUE, not \"A\""),
            ("/api/v1/task?alias=%00", "`alias` must not hold a NUL character"),
            ("/api/v1/task?aliass=x", "`aliass` is no parameter here; did you mean `alias`?"),
            ("/api/v1/history?status=running", "`status` \"running\" is none of QUEUED, PENDING"),
            ("/api/v1/history?sort_by=env", "`sort_by` \"env\" is none of queued_at"),
            ("/api/v1/history?order=asc&order=", ""),
            ("/api/v1/groups?limit=x", "`limit`"),
            ("/api/v1/tags?colour=x", "`colour` is no parameter here"),
            ("/api/v6/clusters?colour=x", "`colour` is no parameter here, where there is none"),
        ] {
            let answer = world.get(path).await;
            if expected.is_empty() {
                answer.ok();
            } else {
                let error = answer.refused(400);
                assert!(error.contains(expected), "{path}: {error}");
            }
        }
    }

    async fn a_limit_beyond_the_configured_one_is_cut_and_the_answer_says_so(world: World) {
        for path in ["/api/v1/task", "/api/v1/history", "/api/v1/groups", "/api/v1/tags"] {
            for limit in ["2001", "99999999999"] {
                let list = world.get(&format!("{path}?limit={limit}")).await.ok();
                assert_eq!(list["limit"], Value::from(2000), "{path}");
            }
        }
    }
}
