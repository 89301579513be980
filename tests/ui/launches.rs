//! Launches: the form, what it remembers, and that it launches once.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::page::Page;
use crate::world::{Options, World};

async fn task(world: &World) -> String {
    let body = json!({"alias": "job", "group_name": "testing", "image": world.image, "command": "exit 0", "memory": 64,
                      "env": [{"name": "A", "value": "1\n2"}, {"name": "B", "value": "<b>"}]});
    crate::world::text(&world.post("/api/v1/task", body).await.ok()["definition_id"])
}

fn nonce(page: &Page) -> String {
    page.between("name=\"nonce\" value=\"", "\"")[0].to_owned()
}

async fn runs(world: &World) -> Vec<Value> {
    world.get("/api/v1/history").await.ok()["history"].as_array().unwrap().clone()
}

fn run_of(page: &Page) -> String {
    page.leads_to().strip_prefix("/ui/runs/").unwrap().to_owned()
}

#[tokio::test]
async fn a_launch_has_the_tasks_variables_and_what_was_changed() {
    let world = World::on_sqlite(Options::default()).await;
    let id = task(&world).await;
    let path = format!("/ui/tasks/{id}/launch");
    let page = world.page(&path).await;
    page.is(200)
        .has("\n1\n2</textarea>")
        .has("&#60;b&#62;</textarea>")
        .has("value=\"default\" checked")
        .has("placeholder=\"64\"");
    page.has("<summary>What it runs</summary>\n<pre class=\"code wraps\" tabindex=\"0\">exit 0</pre>").lacks("changed");
    let nonce = nonce(&page);
    let form = [
        ("nonce", nonce.as_str()),
        ("cluster", "idle"),
        ("owner", "ada"),
        ("description", "why not"),
        ("env_name", "A"),
        ("env_value", "1\r\n2"),
        ("env_name", "B"),
        ("env_value", "new"),
        ("env_name", "C"),
        ("env_value", "3"),
        ("command", ""),
        ("image", ""),
        ("memory", "128"),
        ("active_deadline_seconds", "1m"),
        ("node_lifecycle", "spot"),
        ("action", "launch"),
    ];
    let answer = world.form(&path, &form).await;
    let run = world.history(&run_of(&answer)).await;
    assert_eq!((&run["cluster"], &run["user"], &run["memory"]), (&json!("idle"), &json!("ada"), &json!(128)));
    assert_eq!(
        (&run["description"], &run["active_deadline_seconds"], &run["node_lifecycle"]),
        (&json!("why not"), &json!(60), &json!("spot"))
    );
    assert_eq!(run["command"], "exit 0");
    let env = run["env"].as_array().unwrap();
    for (name, value) in [("A", "1\n2"), ("B", "new"), ("C", "3")] {
        assert!(env.contains(&json!({"name": name, "value": value})), "{env:?}");
    }
    // The owner is remembered.
    let cookie = answer.header("set-cookie");
    assert!(cookie.contains("SameSite=Lax") && cookie.contains("Path=/ui"), "{cookie}");
    let request = Request::get(&path).header("cookie", cookie.split(';').next().unwrap());
    world.visit(request.body(Body::empty()).unwrap()).await.has("name=\"owner\" value=\"ada\"");
}

#[tokio::test]
async fn a_form_that_is_sent_twice_launches_once_and_one_that_was_changed_again() {
    let world = World::on_sqlite(Options::default()).await;
    let id = task(&world).await;
    let path = format!("/ui/tasks/{id}/launch");
    let nonce = nonce(&world.page(&path).await);
    let form =
        |value: &'static str| [("nonce", nonce.clone()), ("env_name", "A".into()), ("env_value", value.to_owned())];
    let send = async |form: &[(&str, String)]| {
        let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        run_of(&world.form(&path, &form).await)
    };
    let first = send(&form("1")).await;
    assert_eq!(send(&form("1")).await, first);
    assert_eq!(runs(&world).await.len(), 1);
    assert_ne!(send(&form("2")).await, first);
    assert_eq!(runs(&world).await.len(), 2);
}

#[tokio::test]
async fn what_is_wrong_with_a_launch_stands_beside_its_field() {
    let world = World::on_sqlite(Options::default()).await;
    let id = task(&world).await;
    let path = format!("/ui/tasks/{id}/launch");
    let form = [
        ("nonce", "n"),
        ("cluster", "nowhere"),
        ("memory", "-1"),
        ("active_deadline_seconds", "0"),
        ("owner", "ada<b>"),
    ];
    let page = world.form(&path, &form).await;
    page.is(400)
        .has("id=\"e-cluster\">&#34;nowhere&#34; is not known")
        .has("id=\"e-memory\">Must be between")
        .has("<details class=\"more\" open>");
    page.has("value=\"n\"").has("value=\"ada&#60;b&#62;\"").lacks("ada<b>");
    // What can't be read is told together with what is out of range.
    let form = [("memory", "abc"), ("active_deadline_seconds", "-4"), ("cluster", "nowhere")];
    let page = world.form(&path, &form).await;
    page.is(400)
        .has("id=\"e-memory\">Must be a whole number")
        .has("id=\"e-active_deadline_seconds\">Must be between 1 and")
        .has("id=\"e-cluster\">&#34;nowhere&#34; is not known");
    let page =
        world.form(&path, &[("memory", "x"), ("action", "add:env"), ("env_name", "Z"), ("env_value", "z")]).await;
    page.is(200).has("value=\"Z\"").has("value=\"x\"");
    assert!(runs(&world).await.is_empty());
    world.page("/ui/tasks/nothing/launch").await.is(404);
}

#[tokio::test]
async fn a_run_is_launched_again_with_its_own_values() {
    let world = World::on_sqlite(Options::default()).await;
    let id = task(&world).await;
    let body = json!({"cluster": "idle", "memory": 96, "command": "echo \"other\"", "env": [{"name": "B", "value": "changed"}, {"name": "N", "value": "new"}],
                      "run_tags": {"owner_id": "grace", "team_name": "ml"}, "labels": {"k": "v"}, "description": "first"});
    let first = world.launch(&id, body).await;

    let page = world.page(&format!("/ui/tasks/{id}/launch?from={first}")).await;
    page.is(200)
        .has("changed</textarea>")
        .has("value=\"N\"")
        .has("value=\"grace\"")
        .has("value=\"96\"")
        .has("echo &#34;other&#34;</textarea>");
    // Only B has another value than in the task; N is no variable of it.
    assert_eq!(page.between("class=\"hint changed\" title=\"", "\""), ["&#60;b&#62;"]);
    page.has("value=\"idle\" checked").lacks("FLOTILLA_RUN_ID").has("<details class=\"more\" open>");

    for again in [
        run_of(&world.form(&format!("/ui/runs/{first}/again"), &[("nonce", "n")]).await),
        run_of(
            &world
                .form(
                    &format!("/ui/tasks/{id}/launch?from={first}"),
                    &[
                        ("nonce", "m"),
                        ("cluster", "idle"),
                        ("owner", "grace"),
                        ("description", "first"),
                        ("memory", "96"),
                        ("command", "echo \"other\""),
                        ("env_name", "B"),
                        ("env_value", "changed"),
                        ("env_name", "N"),
                        ("env_value", "new"),
                    ],
                )
                .await,
        ),
    ] {
        let (old, new) = (world.history(&first).await, world.history(&again).await);
        assert_ne!(old["run_id"], new["run_id"]);
        for field in ["cluster", "memory", "command", "user", "run_tags", "labels", "description", "image"] {
            assert_eq!(old[field], new[field], "{field}");
        }
        let own = |run: &Value| {
            let env = run["env"].as_array().unwrap().iter();
            env.filter(|var| !var["name"].as_str().unwrap().starts_with("FLOTILLA_")).cloned().collect::<Vec<_>>()
        };
        assert_eq!(own(&old), own(&new));
    }
    assert_eq!(
        run_of(&world.form(&format!("/ui/runs/{first}/again"), &[("nonce", "n")]).await),
        run_of(&world.form(&format!("/ui/runs/{first}/again"), &[("nonce", "n")]).await),
    );
    let other = world.define("other", "exit 0").await;
    world.page(&format!("/ui/tasks/{other}/launch?from={first}")).await.is(404);
}

#[tokio::test]
async fn a_run_whose_cluster_is_gone_goes_to_no_other_one_unasked() {
    let world = World::on_sqlite(Options::default()).await;
    let id = task(&world).await;
    let path = format!("/ui/tasks/{id}/launch");
    let page = world.form(&path, &[("cluster", "gone"), ("action", "add:env")]).await;
    page.is(200).has("value=\"gone\" checked").has("is not there any more");
    world.form(&path, &[("cluster", "gone")]).await.is(400).has("is not known");
    assert!(runs(&world).await.is_empty());
}

#[tokio::test]
async fn an_owner_that_was_left_as_it_was_keeps_the_tag_that_says_it() {
    let world = World::on_sqlite(Options::default()).await;
    let id = task(&world).await;
    let first = world.launch(&id, json!({"run_tags": {"owner_email": "a@b.c", "team_name": "ml"}})).await;
    let path = format!("/ui/tasks/{id}/launch?from={first}");
    let again = async |nonce: &'static str, owner: &'static str| {
        let answer = world.form(&path, &[("nonce", nonce), ("cluster", "default"), ("owner", owner)]).await;
        world.history(&run_of(&answer)).await["run_tags"].clone()
    };
    assert_eq!(again("n", "a@b.c").await, json!({"owner_email": "a@b.c", "team_name": "ml"}));
    assert_eq!(again("m", "grace").await, json!({"owner_id": "grace", "team_name": "ml"}));
}
