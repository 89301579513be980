//! Every field of a form × what it should not hold: it is stored as it was typed, or the form comes back with it.

use serde_json::{Value, json};

use crate::page::Page;
use crate::support::hostile::texts;
use crate::world::{Options, World, text};

/// As browsers send a field and as forms read it: one kind of line break, no blanks around a line.
fn typed(field: &str, text: &str) -> Value {
    let text = text.replace("\r\n", "\n");
    match field {
        "command" | "env_value" => json!(text),
        _ => json!(text.trim()),
    }
}

fn assert_sound(page: &Page, case: &str) {
    assert!(page.status < 500, "{case}: {}", page.html);
    for markup in ["<script>alert", "<img src=x", "\" onfocus=\"alert", "href=\"javascript:"] {
        assert!(!page.html.contains(markup), "{case}: {markup:?} in {}", page.html);
    }
}

async fn stored(world: &World, address: &str, kind: &str) -> Value {
    let id = address.rsplit('/').next().unwrap();
    let path = if kind == "task" { format!("/api/v1/task/{id}") } else { format!("/api/v1/history/{id}") };
    world.get(&path).await.ok()
}

#[tokio::test]
async fn every_field_of_the_form_of_a_task_keeps_or_refuses_every_text() {
    let world = World::on_sqlite(Options::default()).await;
    let fields = [
        ("alias", "/alias"),
        ("group_name", "/group_name"),
        ("image", "/image"),
        ("command", "/command"),
        ("env_name", "/env/0/name"),
        ("env_value", "/env/0/value"),
        ("tags", "/tags/0"),
        ("user", "/user"),
        ("memory", "/memory"),
        ("cpu", "/cpu"),
        ("gpu", "/gpu"),
        ("ephemeral_storage", "/ephemeral_storage"),
        ("ports", "/ports/0"),
    ];
    let (mut accepted, mut refused) = (0, 0);
    for (field, pointer) in fields {
        for (name, text) in texts() {
            let case = format!("{field} = {name}");
            let alias = format!("a{accepted}");
            let usual = [
                ("alias", alias.as_str()),
                ("group_name", "g"),
                ("image", "i:1"),
                ("command", "c"),
                ("env_name", "A"),
                ("env_value", "b"),
            ];
            let mut form: Vec<_> = usual.into_iter().filter(|(usual, _)| *usual != field).collect();
            form.push((field, &text));
            let page = world.form("/ui/tasks/new", &form).await;
            assert_sound(&page, &case);
            if page.status != 303 {
                // Also what is too much for any form.
                assert!(matches!(page.status, 400 | 413), "{case}: {} {}", page.status, page.html);
                refused += 1;
                continue;
            }
            accepted += 1;
            let address = page.leads_to();
            let task = stored(&world, &address, "task").await;
            let found = task.pointer(pointer).unwrap_or(&Value::Null);
            match (found, typed(field, &text)) {
                (Value::Null, expected) => assert_eq!(expected.as_str().map(str::trim), Some(""), "{case}: {task}"),
                (Value::Number(number), expected) => assert_eq!(json!(number.to_string()), expected, "{case}"),
                (found, expected) => assert_eq!(found, &expected, "{case}"),
            }
            for page in [address.clone(), format!("{address}/edit")] {
                let page = world.page(&page).await;
                page.is(200);
                assert_sound(&page, &case);
            }
        }
    }
    assert!(accepted > 100 && refused > 100, "{accepted} {refused}");
}

#[tokio::test]
async fn every_field_of_the_form_of_a_launch_keeps_or_refuses_every_text() {
    let world = World::on_sqlite(Options::default()).await;
    let id = world.define("launched", "exit 0").await;
    let path = format!("/ui/tasks/{id}/launch");
    let fields = [
        ("cluster", "/cluster"),
        ("env_name", "/env/0/name"),
        ("env_value", "/env/0/value"),
        ("owner", "/user"),
        ("image", "/image"),
        ("command", "/command"),
        ("memory", "/memory"),
        ("description", "/description"),
        ("node_lifecycle", "/node_lifecycle"),
    ];
    let mut accepted = 0;
    for (field, pointer) in fields {
        for (name, text) in texts() {
            let case = format!("{field} = {name}");
            let usual = [("cluster", "default"), ("env_name", "A"), ("env_value", "b")];
            let mut form: Vec<_> = usual.into_iter().filter(|(usual, _)| *usual != field).collect();
            form.push((field, &text));
            let page = world.form(&path, &form).await;
            assert_sound(&page, &case);
            if page.status != 303 {
                assert!(matches!(page.status, 400 | 413), "{case}: {} {}", page.status, page.html);
                continue;
            }
            accepted += 1;
            let address = page.leads_to();
            let run = stored(&world, &address, "run").await;
            let typed = typed(field, &text);
            let is_nothing = typed.as_str().is_some_and(|text| text.trim().is_empty());
            match run.pointer(pointer).unwrap_or(&Value::Null) {
                _ if is_nothing => {}
                Value::Number(number) => assert_eq!(json!(number.to_string()), typed, "{case}"),
                found => assert_eq!(found, &typed, "{case}"),
            }
            let page = world.page(&address).await;
            page.is(200);
            assert_sound(&page, &case);
        }
    }
    assert!(accepted > 100, "{accepted}");
    assert_eq!(text(&world.get("/health/ready").await.ok()["status"]), "healthy");
}
