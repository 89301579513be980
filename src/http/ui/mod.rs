//! The pages: server-rendered HTML over the same use cases as the API.
//!
//! Each page is one file here with its typed context, one template, and a `sample()` of itself that a test renders.
//! A handler translates like those of the API do, and refuses with the same [`ApiError`](super::error::ApiError); what
//! makes a page of a refusal, guards forms and sets the headers that every page has is [`around`](mod@around). Pages are whole without a script; the
//! modules in `assets/` only make them move.
//!
//! Whatever comes from tasks is untrusted. Templates escape by default; `|safe` is not used, and the few types here that
//! write markup of their own ([`look`], [`words`], [`chart`] and what draws with it) write nothing but numbers, times and our own words; but for
//! [`ansi`], which escapes each character of a log itself.

mod ansi;
mod around;
mod assets;
mod bars;
mod changes;
mod chart;
mod cluster_card;
mod clusters;
mod explain;
mod fold;
mod form;
mod launch;
mod layout;
mod links;
mod log;
mod log_tail;
mod look;
mod meter;
mod overview;
mod pager;
mod palette;
mod queue_depth;
mod range;
mod refusal;
mod run;
mod run_row;
mod runs;
#[cfg(test)]
mod sample;
mod task;
mod task_form;
mod tasks;
mod throughput;
mod timeline;
mod usage;
mod words;

use axum::Router;
use axum::response::Redirect;
use axum::routing::{get, post};

pub(super) use around::around;

use super::App;
use super::base::at;

/// Where the pages begin.
pub(super) const HOME: &str = "/ui";

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(|| async { Redirect::temporary(&at(HOME)) }))
        .route("/ui", get(overview::page))
        .route("/ui/", get(|| async { Redirect::permanent(&at(HOME)) }))
        .route("/ui/tasks", get(tasks::page))
        .route("/ui/runs/{run_id}", get(run::page))
        .route("/ui/runs/{run_id}/stop", get(run::confirm_stop).post(run::stop))
        .route("/ui/tasks/new", get(task_form::new).post(task_form::create))
        .route("/ui/tasks/{definition_id}", get(task::page))
        .route("/ui/tasks/{definition_id}/delete", get(task::confirm_delete).post(task::delete))
        .route("/ui/tasks/{definition_id}/edit", get(task_form::edit).post(task_form::update))
        .route("/ui/tasks/{definition_id}/launch", get(launch::page).post(launch::submit))
        .route("/ui/runs", get(runs::page))
        .route("/ui/runs/{run_id}/again", post(launch::again))
        .route("/ui/clusters", get(clusters::list))
        .route("/ui/clusters/{name}", get(clusters::page).post(clusters::change))
        .route("/ui/changes", get(changes::news))
        .route("/ui/runs/{run_id}/log", get(log::page))
        .route("/ui/runs/{run_id}/log/lines", get(log::lines))
        .route("/ui/runs/{run_id}/log/search", get(log::search))
        .route("/ui/palette", get(palette::search))
        .route("/ui/assets/{version}/{name}", get(assets::serve))
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

    /// Every page and the refusal, as they would be for invented values: what can't be rendered fails here.
    #[test]
    fn every_page_renders_a_sample_of_itself() {
        for (name, rendered) in [
            ("tasks", layout::render(&tasks::TasksPage::sample())),
            ("run", layout::render(&run::RunPage::sample())),
            ("overview", layout::render(&overview::OverviewPage::sample())),
            ("overview of nothing", layout::render(&overview::OverviewPage::empty_sample())),
            ("clusters", layout::render(&clusters::ClustersPage::sample())),
            ("cluster", layout::render(&clusters::ClusterPage::sample())),
            ("run_stop", layout::render(&run::StopPage::sample())),
            ("task", layout::render(&task::TaskPage::sample())),
            ("task_delete", layout::render(&task::DeletePage::sample())),
            ("task_form", layout::render(&task_form::TaskFormPage::sample())),
            ("launch", layout::render(&launch::LaunchPage::sample())),
            ("runs", layout::render(&runs::RunsPage::sample())),
            ("log", layout::render(&log::LogPage::sample())),
            ("refusal", layout::render(&refusal::RefusalPage::sample())),
        ] {
            let html = rendered.unwrap();
            assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"), "{name}: {html}");
            for forbidden in ["<script>", "style=", " onclick=", "javascript:", "http://", "https://"] {
                assert!(!html.contains(forbidden), "{name} holds {forbidden}: {html}");
            }
        }
    }
}
