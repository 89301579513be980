//! The pages: server-rendered HTML over the same use cases as the API.
//!
//! Each page is one file here with its typed context, one template, and a `sample()` of itself that a test renders.
//! A handler translates like those of the API do, and refuses with the same [`ApiError`](super::error::ApiError); what
//! makes a page of a refusal, guards forms and sets the headers that every page has is [`guard`](mod@around). Pages are whole without a script; the
//! modules in `assets/` only make them move.
//!
//! Whatever comes from tasks is untrusted. Templates escape by default; `|safe` is not used, and the few types here that
//! write markup of their own ([`look`], [`words`], [`chart`] and what draws with it) write nothing but numbers, times and our own words; but for
//! [`ansi`], which escapes each character of a log itself.

mod assets;
mod changes;
mod charts;
mod guard;
mod pages;
mod parts;

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;

pub(super) use guard::guard_pages;

use super::App;
use super::base::at;

/// Where the pages begin.
pub(super) const HOME: &str = "/ui";

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(|| async { Redirect::temporary(&at(HOME)) }))
        .route("/ui/", get(|| async { Redirect::permanent(&at(HOME)) }))
        .route("/ui/changes", get(changes::news))
        .route("/ui/assets/{version}/{name}", get(assets::serve))
        .merge(pages::routes())
}

/// Whether people look at this path, and not programs.
pub(super) fn is_page(path: &str) -> bool {
    path.strip_prefix(HOME).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_ui_is_a_page() {
        for (path, expected) in
            [("/ui", true), ("/ui/", true), ("/ui/tasks", true), ("/uix", false), ("/api/ui", false)]
        {
            assert_eq!(is_page(path), expected, "{path}");
        }
    }
}
