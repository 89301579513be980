//! What the palette finds: tasks by what is typed, and a run by its id.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::links;
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::respond::ok;
use crate::model::{DefinitionFilter, DefinitionSort, Order, PageRequest, RunId};
use crate::service::ServiceError;

/// How many tasks are offered: as many as can be looked over at a glance.
const OFFERED: u32 = 8;

#[derive(Serialize)]
struct Offer {
    text: String,
    hint: String,
    address: String,
}

pub(super) async fn search(State(app): State<App>, mut params: Params) -> Result<Response, ApiError> {
    let typed = params.last("q").unwrap_or_default();
    params.finish()?;
    let mut offers = Vec::new();
    if typed.trim().parse::<RunId>().is_ok() {
        match app.service.run(typed.trim()).await {
            Ok(run) => offers.push(Offer {
                text: format!("Run {}", run.run_id),
                hint: run.alias.unwrap_or(run.group_name),
                address: links::run(run.run_id),
            }),
            Err(ServiceError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let filter = DefinitionFilter::search(&typed);
    let page = PageRequest { limit: OFFERED, offset: 0, sort_by: DefinitionSort::Alias, order: Order::Asc };
    let found = app.service.definitions(&filter, page).await?;
    offers.extend(found.rows.into_iter().map(|definition| {
        let id = definition.definition_id;
        Offer {
            address: links::task(&id),
            text: definition.alias.unwrap_or_else(|| id.to_string()),
            hint: definition.group_name,
        }
    }));
    Ok(ok(&offers))
}
