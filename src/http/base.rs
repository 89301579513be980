//! Base path of the server: the root of its host, or the path of `public_url`.
//!
//! Proxies either pass this path on or strip it, so requests are served both with and without it. Links back to this
//! server always include it and are made by [`at`]. The path is kept with the current request, because icons and
//! words also write links and would otherwise all need it as a parameter.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;

tokio::task_local! {
    static BASE: Arc<str>;
}

/// The URL path, on the same host, of this path of the server. Must be called within a request.
pub(super) fn at(path: &str) -> String {
    BASE.try_with(|base| format!("{base}{path}")).unwrap_or_else(|_| path.to_owned())
}

/// Serves the routes at the root and below `base`, which is empty or begins with a slash and ends without one.
pub(super) fn wrap(routes: Router, base: &str) -> Router {
    if base.is_empty() {
        return routes;
    }
    let routes = routes.layer(from_fn_with_state(Arc::from(base), below));
    Router::new().nest_service(base, routes.clone()).fallback_service(routes)
}

async fn below(State(base): State<Arc<str>>, request: Request, next: Next) -> Response {
    let mut response = BASE.scope(Arc::clone(&base), next.run(request)).await;
    // Libraries also redirect, and do not know the base path.
    let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    if let Some(path) = location.filter(|path| path.starts_with('/') && !is_below(path, &base))
        && let Ok(location) = HeaderValue::from_str(&format!("{base}{path}"))
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn is_below(path: &str, base: &str) -> bool {
    path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::response::Redirect;
    use axum::routing::get;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::model::PublicUrl;

    async fn ask(routes: &Router, path: &str) -> Response {
        routes.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn links_have_the_path_whether_the_request_had_it_or_not() {
        let routes = Router::new()
            .route("/", get(|| async { at("/ui") }))
            .route("/a/{b}", get(|request: Request| async move { format!("{} {}", request.uri(), at("/x?y")) }))
            .route("/to", get(|| async { Redirect::to(&at("/there?a")) }))
            .route("/bare", get(|| async { Redirect::to("/there") }))
            .route("/alike", get(|| async { Redirect::to("/flotillas") }))
            .route("/away", get(|| async { Redirect::to("https://other.example/") }));
        let below = wrap(routes.clone(), "/tools/flotilla");
        for (path, expected) in [
            ("/", "/tools/flotilla/ui"),
            ("/tools/flotilla", "/tools/flotilla/ui"),
            ("/tools/flotilla/", "/tools/flotilla/ui"),
            ("/a/b%2Fc?d=e", "/a/b%2Fc?d=e /tools/flotilla/x?y"),
            ("/tools/flotilla/a/b%2Fc?d=e", "/a/b%2Fc?d=e /tools/flotilla/x?y"),
        ] {
            let body = ask(&below, path).await.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(String::from_utf8_lossy(&body), expected, "{path}");
        }
        for (path, expected) in [
            ("/to", "/tools/flotilla/there?a"),
            ("/bare", "/tools/flotilla/there"),
            ("/alike", "/tools/flotilla/flotillas"),
            ("/away", "https://other.example/"),
        ] {
            for path in [path.to_owned(), format!("/tools/flotilla{path}")] {
                assert_eq!(ask(&below, &path).await.headers()["location"], expected, "{path}");
            }
        }
        for path in ["/tools/flotillas/a/b", "/tools/flotilla/tools/flotilla/a/b", "/flotilla/a/b"] {
            assert_eq!(ask(&below, path).await.status().as_u16(), 404, "{path}");
        }
        let at_root = wrap(routes, "");
        assert_eq!(ask(&at_root, "/to").await.headers()["location"], "/there?a");
        assert_eq!(ask(&at_root, "/tools/flotilla/to").await.status().as_u16(), 404);
    }

    #[test]
    fn no_path_below_which_it_lies_can_be_taken_for_one_of_its_own() {
        let document = crate::http::openapi();
        let paths = document["paths"].as_object().unwrap().keys();
        // The same routes exist without `/api`.
        let own = paths.map(|path| path.trim_start_matches("/api").to_owned());
        for path in own.chain(["/api", "/docs", "/ui"].map(str::to_owned)) {
            let first = path.split('/').nth(1).unwrap();
            let error = format!("https://tools.example/{first}/below").parse::<PublicUrl>().unwrap_err();
            assert!(error.contains(first), "{error}");
        }
    }
}
