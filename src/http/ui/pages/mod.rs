//! One file per page: its routes, its typed context, its template, and a sample of itself that a test renders.

mod clusters;
mod launch;
mod log;
mod overview;
mod palette;
pub mod refusal;
mod run;
mod runs;
mod task;
mod task_form;
mod tasks;

use axum::Router;

use crate::http::App;

pub fn routes() -> Router<App> {
    Router::new()
        .merge(overview::routes())
        .merge(tasks::routes())
        .merge(task::routes())
        .merge(task_form::routes())
        .merge(launch::routes())
        .merge(runs::routes())
        .merge(run::routes())
        .merge(log::routes())
        .merge(clusters::routes())
        .merge(palette::routes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::ui::parts::layout::render;

    /// Renders every page, including the refusal, with sample values: a page that can't be rendered fails here.
    #[test]
    fn every_page_renders_a_sample_of_itself() {
        for (name, rendered) in [
            ("tasks", render(&tasks::TasksPage::sample())),
            ("run", render(&run::RunPage::sample())),
            ("overview", render(&overview::OverviewPage::sample())),
            ("overview of nothing", render(&overview::OverviewPage::empty_sample())),
            ("clusters", render(&clusters::ClustersPage::sample())),
            ("cluster", render(&clusters::ClusterPage::sample())),
            ("run_stop", render(&run::StopPage::sample())),
            ("task", render(&task::TaskPage::sample())),
            ("task_delete", render(&task::DeletePage::sample())),
            ("task_form", render(&task_form::TaskFormPage::sample())),
            ("launch", render(&launch::LaunchPage::sample())),
            ("runs", render(&runs::RunsPage::sample())),
            ("log", render(&log::LogPage::sample())),
            ("refusal", render(&refusal::RefusalPage::sample())),
        ] {
            let html = rendered.unwrap();
            assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"), "{name}: {html}");
            for forbidden in ["<script>", "style=", " onclick=", "javascript:", "http://", "https://"] {
                assert!(!html.contains(forbidden), "{name} holds {forbidden}: {html}");
            }
        }
    }
}
