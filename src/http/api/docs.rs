//! The API's description, generated from the code, and pages to browse it that load nothing from other sites.

mod accepted;
mod answers;

use std::collections::HashSet;

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use crate::http::App;
use crate::http::base::at;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Flotilla",
        description = "Define tasks once, launch them as often as needed, and see what became of them.\n\n\
            Every route is also served at the root, without `/api`. Times are RFC 3339 in UTC. Whatever is refused is \
            answered with `{\"error\": \"…\"}`: 404 also for a path that does not exist, 405 for another method, with \
            `Allow`. Bodies are read as JSON whatever their content type says, and fields that are not described are \
            ignored; a query parameter that is not described is refused, unless it begins with `_`.\n\n\
            No answer holds `null`: a field without a value is left out. In a request, `null` says the same as leaving \
            the field out. The length of a text is counted in bytes of UTF-8, and names are in Unicode's composed form \
            (NFC).",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "tasks", description = "Task definitions"),
        (name = "launches", description = "Running a task once"),
        (name = "runs", description = "What became of launches"),
        (name = "logs", description = "What runs have written"),
        (name = "names", description = "Groups, tags and clusters"),
        (name = "clusters", description = "Where runs are executed"),
        (name = "health", description = "The server itself"),
    )
)]
struct Description;

/// The routes below `/api`, and the part of their description that is written beside the handlers.
pub fn with_api(api: OpenApiRouter<App>) -> (Router<App>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Description::openapi()).nest("/api", api).split_for_parts()
}

/// The description as served at `/api/openapi.json`.
#[must_use]
pub fn openapi() -> Value {
    document(&with_api(super::routes()).1)
}

/// The whole description, including the constraints on requests, taken from the constants that validate them, and the
/// responses that any request may get.
pub fn document(description: &utoipa::openapi::OpenApi) -> Value {
    let mut document = serde_json::to_value(description).expect("a description has string keys and serializes");
    accepted::add(&mut document);
    answers::add(&mut document);
    document
}

/// The operations that have query parameters, by method and path below `/api`.
pub fn with_parameters(document: &mut Value) -> HashSet<(String, String)> {
    let mut found = HashSet::new();
    each_operation(document, |path, method, operation| {
        let parameters = operation["parameters"].as_array();
        if parameters.into_iter().flatten().any(|parameter| parameter["in"] == "query") {
            found.insert((method.to_uppercase(), path.strip_prefix("/api").unwrap_or(path).to_owned()));
        }
    });
    found
}

/// Visits each operation with its path and method.
fn each_operation(document: &mut Value, mut visit: impl FnMut(&str, &str, &mut Value)) {
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, item) in paths {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            visit(path, method, operation);
        }
    }
}

pub fn routes(mut document: Value, base_path: &str) -> Router<App> {
    if !base_path.is_empty() {
        document["servers"] = json!([{ "url": base_path }]);
    }
    let pages: Router<App> = SwaggerUi::new("/api/docs")
        // Relative to the page's own address.
        .config(utoipa_swagger_ui::Config::new(["../openapi.json"]).validator_url("none"))
        .into();
    // Serialized once, because it is large.
    let description = Bytes::from(serde_json::to_vec(&document).expect("a JSON value serializes"));
    Router::new()
        .route("/api/openapi.json", get(move || std::future::ready(answer(description.clone()))))
        .route("/docs", get(|| async { Redirect::temporary(&at("/api/docs/")) }))
        .merge(pages)
}

fn answer(description: Bytes) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json; charset=utf-8"),
        // Browser-based tools read it from any site.
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    ];
    (headers, description).into_response()
}
