//! The description of the API, made from the code, and pages to browse it that load nothing from elsewhere.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{Redirect, Response};
use axum::routing::get;
use utoipa::OpenApi;
use utoipa::openapi::Server;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use super::App;
use super::base::at;
use super::respond::ok;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Flotilla",
        description = "Define tasks once, launch them as often as needed, and see what became of them.\n\n\
            Every route is also served at the root, without `/api`. Times are RFC 3339 in UTC. Whatever is refused is \
            answered with `{\"error\": \"…\"}`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "tasks", description = "Task definitions"),
        (name = "launches", description = "Running a task once"),
        (name = "runs", description = "What became of launches"),
        (name = "logs", description = "What runs have written"),
        (name = "names", description = "Groups, tags and clusters"),
        (name = "health", description = "The server itself"),
    )
)]
struct Description;

/// The routes below `/api`, and the whole description.
pub(super) fn with_api(api: OpenApiRouter<App>) -> (Router<App>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Description::openapi()).nest("/api", api).split_for_parts()
}

/// The description as `/api/openapi.json` gives it.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    with_api(super::api()).1
}

pub(super) fn routes(mut openapi: utoipa::openapi::OpenApi, base_path: &str) -> Router<App> {
    if !base_path.is_empty() {
        openapi.servers = Some(vec![Server::new(base_path)]);
    }
    let pages: Router<App> = SwaggerUi::new("/api/docs")
        // From the page's own address.
        .config(utoipa_swagger_ui::Config::new(["../openapi.json"]).validator_url("none"))
        .into();
    Router::new()
        .route("/api/openapi.json", get(move || std::future::ready(description(&openapi))))
        .route("/docs", get(|| async { Redirect::temporary(&at("/api/docs/")) }))
        .merge(pages)
}

fn description(openapi: &utoipa::openapi::OpenApi) -> Response {
    let mut response = ok(openapi);
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}
