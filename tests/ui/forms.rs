//! Tasks are written, changed, copied and deleted, by a browser without scripts.

use serde_json::{Value, json};

use crate::world::{Options, World};

const COMMAND: &str = "set -eu\r\nif true; then\r\n\techo '<b>hi</b>'\r\nfi";

fn fields<'a>(alias: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![("alias", alias), ("group_name", "testing"), ("image", "busybox:1"), ("command", COMMAND)];
    fields.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    fields.extend(more);
    fields
}

async fn only_task(world: &World) -> Value {
    let list = world.get("/api/v1/task").await.ok();
    assert_eq!(list["total"], 1, "{list}");
    list["definitions"][0].clone()
}

#[tokio::test]
async fn a_task_is_stored_as_it_was_typed() {
    let world = World::on_sqlite(Options::default()).await;
    let form = fields(
        "hello",
        &[
            ("env_name", "A"),
            ("env_value", " 1\r\n2 "),
            ("env_name", ""),
            ("env_value", ""),
            ("tags", "x"),
            ("tags", " y "),
            ("tags", ""),
            ("memory", "64"),
            ("cpu", ""),
            ("gpu", "0"),
            ("ports", "80, 8080"),
            ("user", ""),
            ("privileged", "yes"),
            ("action", "save"),
        ],
    );
    let leads_to = world.form("/ui/tasks/new", &form).await.leads_to();
    let task = only_task(&world).await;
    assert_eq!(leads_to, format!("/ui/tasks/{}", task["definition_id"].as_str().unwrap()));
    assert_eq!(task["command"], COMMAND.replace("\r\n", "\n"));
    assert_eq!(task["env"], json!([{"name": "A", "value": " 1\n2 "}]));
    assert_eq!((&task["tags"], &task["ports"]), (&json!(["x", "y"]), &json!([80, 8080])));
    assert_eq!((&task["memory"], &task["cpu"], &task["gpu"]), (&json!(64), &Value::Null, &json!(0)));
    assert_eq!((&task["user"], &task["privileged"]), (&Value::Null, &json!(true)));
    world
        .page(&leads_to)
        .await
        .is(200)
        .has("<h1>hello</h1>")
        .has("echo &#39;&#60;b&#62;hi&#60;/b&#62;&#39;")
        .lacks("<b>hi");
}

#[tokio::test]
async fn the_form_says_what_is_needed_and_what_is_not() {
    let world = World::on_sqlite(Options::default()).await;
    let page = world.page("/ui/tasks/new").await;
    let labels = page.between("<label for=\"f-", "</label>");
    for (name, need) in [("alias", "optional"), ("group_name", "needed"), ("image", "needed"), ("command", "needed")] {
        let label = labels.iter().find(|label| label.starts_with(&format!("{name}\">"))).unwrap();
        assert!(label.contains(&format!(">{need}</span>")), "{label}");
        let field = page.between(&format!("id=\"f-{name}\""), ">")[0];
        assert_eq!(field.contains("aria-required=\"true\""), need == "needed", "{field}");
    }
}

#[tokio::test]
async fn what_is_wrong_stands_beside_its_field_and_what_was_typed_stays() {
    let world = World::on_sqlite(Options::default()).await;
    let form = [
        ("alias", " "),
        ("group_name", "a/b"),
        ("image", "has space"),
        ("command", "<script>\n  indented"),
        ("memory", "much"),
        ("cpu", "-1"),
        ("env_name", ""),
        ("env_value", ""),
        ("env_name", "A=B"),
        ("env_value", "kept \"value\""),
        ("tags", "\u{7}"),
    ];
    let page = world.form("/ui/tasks/new", &form).await;
    page.is(400).has("Nothing was saved yet");
    page.has("id=\"e-image\">Must not hold white space")
        .has("id=\"e-memory\">Must be a whole number, not &#34;much&#34;.");
    page.has("id=\"e-cpu\">Must be between 0 and").has("id=\"e-group_name\">Must not hold `/`");
    page.has("Must not hold `=`").has("id=\"e-tags\">Must not hold control characters");
    page.has("value=\"has space\"").has("value=\"much\"").has("kept &#34;value&#34;</textarea>");
    page.has("\n&#60;script&#62;\n  indented</textarea>").lacks("<script>\n");
    // The fault is on the second row, though the first was empty and not sent on.
    let rows = page.between("data-row>", "</div>");
    assert!(rows[1].contains("aria-invalid") && !rows[0].contains("aria-invalid"), "{rows:#?}");
    assert_eq!(world.get("/api/v1/task").await.ok()["total"], 0);
}

#[tokio::test]
async fn an_alias_that_is_taken_is_told_before_and_when_it_is_saved() {
    let world = World::on_sqlite(Options::default()).await;
    world.define("taken", "exit 0").await;
    let page = world.form("/ui/tasks/new", &fields("taken", &[("action", "check")])).await;
    page.is(200).has("id=\"e-alias\">&#34;taken&#34; is taken by another task.");
    let page = world.form("/ui/tasks/new", &fields("taken", &[("action", "save")])).await;
    page.is(409).has("id=\"e-alias\">&#34;taken&#34; is taken by another task.").has("value=\"taken\"");
    // Also together with whatever else is wrong, be it unreadable or refused.
    for other in [("memory", "much"), ("image", "")] {
        let page = world.form("/ui/tasks/new", &fields("taken", &[other, ("action", "save")])).await;
        page.is(400).has("id=\"e-alias\">&#34;taken&#34; is taken by another task.");
        assert!(!page.between(&format!("id=\"e-{}\">", other.0), "</p>")[0].is_empty(), "{other:?}");
    }
    world.form("/ui/tasks/new", &fields("free", &[("action", "check")])).await.is(200).has("id=\"e-alias\"></p>");
    assert_eq!(world.get("/api/v1/task").await.ok()["total"], 1, "a check stores nothing");
}

#[tokio::test]
async fn a_variable_that_is_given_twice_is_marked_where_it_stands_again() {
    let world = World::on_sqlite(Options::default()).await;
    let twice = [
        ("env_name", "A"),
        ("env_value", "1"),
        ("env_name", ""),
        ("env_value", ""),
        ("env_name", " A "),
        ("env_value", "2"),
    ];
    for (action, status) in [("check", 200), ("save", 400)] {
        let page = world.form("/ui/tasks/new", &fields("t", &[twice.as_slice(), &[("action", action)]].concat())).await;
        let rows = page.is(status).between("data-row>", "</div>");
        let marked: Vec<_> = rows.iter().map(|row| row.contains("<p class=\"error\">Is given twice.</p>")).collect();
        assert_eq!(marked[..3], [false, false, true], "{rows:#?}");
    }
    let id = world.define("t", "exit 0").await;
    world.form(&format!("/ui/tasks/{id}/launch"), &twice).await.is(400).has("Is given twice.");
    assert_eq!(world.get("/api/v1/history").await.ok()["total"], 0);
}

#[tokio::test]
async fn rows_come_and_go_by_buttons_alone() {
    let world = World::on_sqlite(Options::default()).await;
    let typed = [("env_name", "A"), ("env_value", "1"), ("env_name", "B"), ("env_value", "2"), ("tags", "x")];
    let with = |action: &'static str| fields("t", &[typed.as_slice(), &[("action", action)]].concat());
    let names = |html: &crate::page::Page| {
        html.between("name=\"env_name\" value=\"", "\"").into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let page = world.form("/ui/tasks/new", &with("add:env")).await;
    assert_eq!(names(page.is(200)), ["A", "B", ""]);
    let page = world.form("/ui/tasks/new", &with("env:0")).await;
    assert_eq!(names(page.is(200)), ["B"]);
    let page = world.form("/ui/tasks/new", &with("add:tags")).await;
    assert_eq!(page.between("name=\"tags\" value=\"", "\""), ["x", ""]);
    assert_eq!(world.get("/api/v1/task").await.ok()["total"], 0);
}

#[tokio::test]
async fn an_edit_replaces_all_that_the_form_shows() {
    let world = World::on_sqlite(Options::default()).await;
    let body = json!({"alias": "a", "group_name": "testing", "image": "i", "command": "c", "memory": 64, "user": "ada", "tags": ["x"],
                      "adaptive_resource_allocation": true});
    let id = crate::world::text(&world.post("/api/v1/task", body).await.ok()["definition_id"]);
    let page = world.page(&format!("/ui/tasks/{id}/edit")).await;
    page.is(200).has("value=\"64\"").has("value=\"ada\"").has("name=\"group_name\" value=\"testing\" readonly");
    let seen = page.between("name=\"seen\" value=\"", "\"")[0].to_owned();
    world.advance(jiff::SignedDuration::from_secs(1));

    let form = fields("b", &[("memory", ""), ("user", ""), ("seen", &seen)]);
    let leads_to = world.form(&format!("/ui/tasks/{id}/edit"), &form).await.leads_to();
    assert_eq!(leads_to, format!("/ui/tasks/{id}"));
    let task = only_task(&world).await;
    assert_eq!(
        (&task["alias"], &task["memory"], &task["user"], &task["tags"]),
        (&json!("b"), &Value::Null, &Value::Null, &json!([]))
    );
    assert_eq!(task["adaptive_resource_allocation"], true, "what the form does not show stays");

    // The same form again was opened before that change.
    let page = world.form(&format!("/ui/tasks/{id}/edit"), &fields("c", &[("seen", &seen)])).await;
    page.is(409).has("Somebody else has changed the task").has("value=\"c\"");
    let seen = page.between("name=\"seen\" value=\"", "\"")[0].to_owned();
    world.form(&format!("/ui/tasks/{id}/edit"), &fields("c", &[("seen", &seen)])).await.is(303);
    assert_eq!(only_task(&world).await["alias"], "c");

    let page = world.form(&format!("/ui/tasks/{id}/edit"), &fields("c", &[("group_name", "other")])).await;
    page.is(400).has("id=\"e-group_name\">Can&#39;t change");
}

#[tokio::test]
async fn a_copy_begins_with_all_of_the_first_and_another_name() {
    let world = World::on_sqlite(Options::default()).await;
    let id = world.define("first", "echo first").await;
    let page = world.page(&format!("/ui/tasks/new?from={id}")).await;
    page.has("value=\"first-copy\"").has("echo first</textarea>").has("value=\"testing\"");
    world.page("/ui/tasks/new?from=nothing").await.is(404);
}

#[tokio::test]
async fn a_task_is_deleted_after_a_question() {
    let world = World::on_sqlite(Options::default()).await;
    let id = world.define("first", "sleep 100").await;
    let run = world.launch(&id, json!({})).await;
    let path = format!("/ui/tasks/{id}/delete");
    world.page(&path).await.is(200).has("Delete first?").has("1 run of it has not ended yet");
    world.page(&format!("/ui/tasks/{id}")).await.has("/delete\" data-confirm");
    let list = world.form(&path, &[]).await.leads_to();
    assert_eq!(list, "/ui/tasks?deleted=first");
    world.page(&list).await.is(200).has("first was deleted. Its runs stay.");
    world.page(&format!("/ui/tasks/{id}")).await.is(404).has("There is nothing here");
    world.page(&format!("/ui/runs?task={id}")).await.is(200).has(&run);
}

/// Many variables, and such as a browser's fields can't show as they are.
fn many_variables() -> Vec<Value> {
    let plain = (0..600).map(|number| (format!("V{number}"), format!("value {number}")));
    let odd = [
        ("CR", "a\r\nb\rc"),
        ("SPACES", "  x  "),
        ("EMPTY", ""),
        ("BLANK", " \n "),
        ("BREAKS", "\n\n<b>&amp;\n"),
        ("IN WORDS", "x"),
        ("<i>&\"'", "\r"),
        ("Ü", "ä😀"),
    ];
    let long = [("LONG".to_owned(), "é".repeat(50_000))];
    let odd = odd.map(|(name, value)| (name.to_owned(), value.to_owned()));
    plain.chain(odd).chain(long).map(|(name, value)| json!({"name": name, "value": value})).collect()
}

async fn define_with_many(world: &World) -> (String, Vec<Value>) {
    let env = many_variables();
    let body = json!({"alias": "many", "group_name": "testing", "image": world.image, "command": "set -e\ntrue\r", "memory": 64,
                      "env": env, "user": "ada l", "privileged": false});
    let id = crate::world::text(&world.post("/api/v1/task", body).await.ok()["definition_id"]);
    (id, env)
}

/// A form as it came, with other fields beside its variables.
async fn send(world: &World, path: &str, more: &[(&str, &str)]) -> crate::page::Page {
    let page = world.page(path).await;
    let variables = page.is(200).variables();
    let mut form: Vec<_> = Vec::from(more);
    if let Some(seen) = page.between("name=\"seen\" value=\"", "\"").first() {
        form.push(("seen", seen));
    }
    for (name, value) in &variables {
        form.extend([("env_name", name.as_str()), ("env_value", value.as_str())]);
    }
    world.form(path, &form).await
}

#[tokio::test]
async fn a_form_carries_all_variables_as_they_are_however_many() {
    let world = World::on_sqlite(Options::default()).await;
    let (id, env) = define_with_many(&world).await;
    let same =
        [("group_name", "testing"), ("image", world.image), ("command", "set -e\r\ntrue\r\n"), ("user", "ada l")];

    // Only the memory is changed.
    let path = format!("/ui/tasks/{id}/edit");
    send(&world, &path, &[&same[..], &[("alias", "many"), ("memory", "128")]].concat()).await.is(303);
    let task = only_task(&world).await;
    assert_eq!(task["memory"], 128);
    assert_eq!(task["env"], json!(env));
    assert_eq!((&task["command"], &task["user"]), (&json!("set -e\ntrue\r"), &json!("ada l")));
    assert_eq!(task["privileged"], false);

    let path = format!("/ui/tasks/new?from={id}");
    let copy = send(&world, &path, &[&same[..], &[("alias", "copy")]].concat()).await.leads_to();
    let copy = world.get(&format!("/api/v1/task/{}", copy.strip_prefix("/ui/tasks/").unwrap())).await.ok();
    assert_eq!((&copy["env"], &copy["command"]), (&json!(env), &task["command"]));

    let of_run = |run: &Value| {
        let env = run["env"].as_array().unwrap().iter();
        env.filter(|var| !var["name"].as_str().unwrap().starts_with("FLOTILLA_")).cloned().collect::<Vec<_>>()
    };
    let path = format!("/ui/tasks/{id}/launch");
    let note = ("description", "two\r\nlines");
    let launched = send(&world, &path, &[("cluster", "default"), note]).await.leads_to();
    let run_id = launched.strip_prefix("/ui/runs/").unwrap().to_owned();
    assert_eq!(of_run(&world.history(&run_id).await), env);
    let path = format!("/ui/tasks/{id}/launch?from={run_id}");
    let launched = send(&world, &path, &[("cluster", "default"), ("description", "twolines")]).await.leads_to();
    let again = world.history(launched.strip_prefix("/ui/runs/").unwrap()).await;
    assert_eq!(of_run(&again), env);
    assert_eq!(again["description"], "two\nlines", "a field of one line shows it without its line break");
}

#[tokio::test]
async fn the_last_of_many_variables_is_changed_like_the_first() {
    let world = World::on_sqlite(Options::default()).await;
    let (id, env) = define_with_many(&world).await;
    let path = format!("/ui/tasks/{id}/launch");
    let mut variables = world.page(&path).await.variables();
    variables[599].1 = "changed".to_owned();
    let form: Vec<_> = variables
        .iter()
        .flat_map(|(name, value)| [("env_name", name.as_str()), ("env_value", value.as_str())])
        .chain([("cluster", "default")])
        .collect();
    let run = world.history(world.form(&path, &form).await.leads_to().strip_prefix("/ui/runs/").unwrap()).await;
    let found = run["env"].as_array().unwrap();
    assert_eq!(found[599], json!({"name": "V599", "value": "changed"}));
    assert_eq!(found[600..609], env[600..609]);
}

#[tokio::test]
async fn a_form_is_bounded_by_what_it_carries_and_then_refused_as_a_whole() {
    let world = World::on_sqlite(Options::default()).await;
    // Sent as 1.5 MB.
    let values: Vec<_> = (0..5).map(|number| (format!("V{number}"), "é".repeat(50_000))).collect();
    let rows = |values: &[(String, String)]| -> Vec<(String, String)> {
        let pairs = values.iter().flat_map(|(name, value)| [("env_name", name), ("env_value", value)]);
        pairs.map(|(name, value)| (name.to_owned(), value.clone())).collect()
    };
    let send = async |alias: &str, rows: Vec<(String, String)>| {
        let rows: Vec<_> = rows.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        world.form("/ui/tasks/new", &fields(alias, &rows)).await
    };
    send("accents", rows(&values)).await.is(303);
    let task = only_task(&world).await;
    assert_eq!(task["env"][4]["value"].as_str().unwrap().chars().count(), 50_000);
    let more: Vec<_> = (0..12).map(|number| (format!("V{number}"), "x".repeat(100_000))).collect();
    send("too-much", rows(&more)).await.is(413).has("nothing was stored");
    assert_eq!(world.get("/api/v1/task").await.ok()["total"], 1);
    // As many tags as a task can't have are refused, not cut.
    let tags: Vec<_> = (0..600).map(|number| ("tags".to_owned(), format!("t{number}"))).collect();
    send("tags", tags).await.is(400).has("600 items");
}
