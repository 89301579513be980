//! What all pages share: what browsers are told, the assets, refusals, and whose forms are taken.

use axum::body::Body;
use axum::http::Request;

use crate::world::{Options, World};

#[tokio::test]
async fn the_root_leads_to_the_pages() {
    let world = World::on_sqlite(Options::default()).await;
    for (from, to) in [("/", "/ui"), ("/ui/", "/ui")] {
        let page = world.visit(Request::get(from).body(Body::empty()).unwrap()).await;
        assert!(page.status == 307 || page.status == 308, "{page:?}");
        assert_eq!(page.header("location"), to, "{from}");
    }
}

#[tokio::test]
async fn browsers_are_told_to_load_and_send_nothing_beyond_this_server() {
    let world = World::on_sqlite(Options::default()).await;
    for path in ["/ui/tasks", "/ui/nothing", "/ui/tasks?nothing=1"] {
        let page = world.page(path).await;
        let policy = page.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "frame-ancestors 'none'",
            "form-action 'self'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert_eq!(page.header("referrer-policy"), "same-origin");
        assert_eq!(page.header("cache-control"), "private, no-cache");
        page.lacks("<script>").lacks("style=\"").lacks("://");
    }
    let policy = world.get("/api/v1/task").await.headers["content-security-policy"].clone();
    assert_eq!(policy, "frame-ancestors 'none'", "what is no page only must not be shown within others");
}

#[tokio::test]
async fn assets_are_kept_for_good_under_addresses_that_change_with_them() {
    let world = World::on_sqlite(Options::default()).await;
    let page = world.page("/ui/tasks").await;
    let addresses = page.between("=\"/ui/assets/", "\"");
    assert!(addresses.len() >= 3, "{addresses:?}");
    for address in addresses {
        let asset = world.get(&format!("/ui/assets/{}", address.split('#').next().unwrap())).await;
        assert_eq!(asset.status.as_u16(), 200, "{address}");
        assert_eq!(asset.headers["cache-control"], "public, max-age=31536000, immutable", "{address}");
        assert_eq!(asset.headers["x-content-type-options"], "nosniff", "{address}");
    }
    let of_another_version = world.get("/ui/assets/000000000000/app.css").await;
    assert_eq!(of_another_version.headers["cache-control"], "no-cache");
    world.page("/ui/assets/000000000000/nothing.css").await.is(404);
}

#[tokio::test]
async fn assets_are_sent_compressed() {
    let world = World::on_sqlite(Options::default()).await;
    let request = Request::get("/ui/assets/x/app.css").header("accept-encoding", "gzip").body(Body::empty()).unwrap();
    assert_eq!(world.request(request).await.headers()["content-encoding"], "gzip");
}

#[tokio::test]
async fn a_refusal_is_a_page_for_people_and_json_for_programs() {
    let world = World::on_sqlite(Options::default()).await;
    world.page("/ui/no/such/page").await.is(404).has("404").has("There is nothing here").has("href=\"/ui/tasks\"");
    world.page("/ui/tasks?colour=%3Cscript%3E").await.is(400).has("`colour` is no parameter here");
    world.page("/ui/tasks?%3Cscript%3Ealert(1)=x").await.is(400).lacks("<script>alert").has("&#60;script&#62;alert(1)");
    let page = world.form("/ui/tasks", &[]).await;
    page.is(405).has("POST can&#39;t be done to /ui/tasks");
    assert!(page.header("allow").contains("GET"));
    assert_eq!(
        world.get("/api/no/such/route").await.refused(404),
        "there is nothing at /api/no/such/route; see /api/docs/"
    );
}

#[tokio::test]
async fn forms_of_other_sites_are_refused() {
    let world = World::on_sqlite(Options::default()).await;
    let send = |headers: &'static [(&str, &str)]| {
        let world = &world;
        async move {
            let mut request = Request::post("/ui/tasks/new").header("host", "flotilla.test");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            world.visit(request.body(Body::from("group_name=g&image=i&command=c")).unwrap()).await
        }
    };
    for headers in [
        &[][..],
        &[("origin", "http://evil.test")],
        &[("origin", "null")],
        &[("origin", "http://flotilla.test"), ("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
    ] {
        send(headers).await.is(403).has("nothing was done");
    }
    assert_eq!(world.get("/api/v1/task").await.ok()["total"], 0);
}
