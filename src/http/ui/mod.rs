//! The pages: server-rendered HTML over the same use cases as the API.
//!
//! Each page is one file in `pages` with its typed context, one template, and a `sample()` of itself that a test
//! renders. Handlers translate like those of the API, and return the same [`ApiError`](super::error::ApiError);
//! [`guard`] turns refusals into pages, checks forms and sets the headers of every page. Pages are complete without
//! scripts; the modules in `assets/` only make them interactive.
//!
//! All data from tasks is untrusted. Templates escape by default and `|safe` is not used. The few types here that
//! write markup ([`state`](parts::state), [`words`](parts::words), [`charts`] and what draws with it) write only
//! numbers, times and our own words, except [`ansi`](parts::ansi), which escapes each character of a log itself.

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

/// Path below which all pages are.
pub(super) const HOME: &str = "/ui";

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(|| async { Redirect::temporary(&at(HOME)) }))
        .route("/ui/", get(|| async { Redirect::permanent(&at(HOME)) }))
        .route("/ui/changes", get(changes::news))
        .route("/ui/assets/{version}/{name}", get(assets::serve))
        .merge(pages::routes())
}

/// Whether this path is for people rather than programs.
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
