//! Search results of the command palette: tasks and clusters by the text typed, and runs by a part of their id.

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;

use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::respond::ok;
use crate::http::ui::parts::links;
use crate::http::ui::parts::state::Badge;
use crate::http::{App, Asked};
use crate::model::{DefinitionFilter, DefinitionSort, Order, PageRequest};

pub fn routes() -> Router<App> {
    Router::new().route("/ui/palette", get(search))
}

/// Maximum number of results of each kind: as many as can be read at a glance.
const OFFERED: usize = 8;
/// Number of tasks among which the best matches are chosen.
const COMPARED: u32 = 100;
const RUNS_OFFERED: u32 = 4;

#[derive(Clone, Serialize)]
struct Offer {
    text: String,
    hint: String,
    address: String,
}

async fn search(app: Asked, mut params: Params) -> Result<Response, ApiError> {
    let typed = params.last("q").unwrap_or_default();
    params.finish()?;
    let runs = app.service.runs_by_part_of_id(&typed, RUNS_OFFERED).await?;
    let page = PageRequest { limit: COMPARED, offset: 0, sort_by: DefinitionSort::Alias, order: Order::Asc };
    let tasks = app.service.definition_summaries(&DefinitionFilter::search(&typed), page).await?;
    let runs = runs.into_iter().map(|run| Offer {
        text: format!("Run {} of {}", run.run_id, run.alias.as_deref().unwrap_or(&run.group_name)),
        hint: Badge::new(run.status, run.outcome).word.to_owned(),
        address: links::run(run.run_id),
    });
    let tasks = tasks.rows.into_iter().map(|definition| {
        let id = definition.definition_id;
        Offer {
            address: links::task(&id),
            text: definition.alias.unwrap_or_else(|| id.to_string()),
            hint: definition.group_name,
        }
    });
    let clusters = app.service.resolved_cluster_names().into_iter().filter(|name| is_like(name, &typed));
    let clusters = clusters.map(|name| Offer {
        address: links::cluster(&name),
        text: format!("Cluster {name}"),
        hint: "Cluster".to_owned(),
    });
    let offers: Vec<_> = runs.chain(nearest(tasks.collect(), &typed)).chain(clusters).collect();
    Ok(ok(&offers))
}

fn is_like(name: &str, typed: &str) -> bool {
    let name = name.to_lowercase();
    !typed.trim().is_empty() && typed.to_lowercase().split_whitespace().all(|word| name.contains(word))
}

/// Exact matches come first, then those that begin with the typed text, then the rest.
fn nearest(mut offers: Vec<Offer>, typed: &str) -> Vec<Offer> {
    let typed = typed.trim().to_lowercase();
    offers.sort_by_cached_key(|offer| {
        let text = offer.text.to_lowercase();
        (text != typed, !text.starts_with(&typed), text)
    });
    offers.truncate(OFFERED);
    offers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_comes_before_what_begins_so_and_what_only_holds_it() {
        let offer = |text: &str| Offer { text: text.to_owned(), hint: String::new(), address: String::new() };
        let offers = ["emptyfail", "failing", "Fail", "a-fail"].map(offer).to_vec();
        let order: Vec<_> = nearest(offers, " fail").into_iter().map(|offer| offer.text).collect();
        assert_eq!(order, ["Fail", "failing", "a-fail", "emptyfail"]);
    }

    #[test]
    fn a_cluster_is_like_what_holds_each_word() {
        assert!(is_like("Batch-North", "north bat") && !is_like("Batch", "bat x") && !is_like("Batch", " "));
    }
}
