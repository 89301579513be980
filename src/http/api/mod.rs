//! The API: each file here serves one kind of resource, with its routes and their description.
//!
//! A handler translates a request into a call of `service`, and the result into a body of `wire`. Every route is
//! served under `/api` and at the root, since the API's two documents differ there.

mod clusters;
mod definitions;
pub mod docs;
pub mod health;
mod launches;
mod logs;
mod names;
mod runs;

use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::App;

/// The routes below `/api`, with their description.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(definitions::routes())
        .merge(launches::routes())
        .merge(runs::routes())
        .merge(logs::routes())
        .merge(names::routes())
        .merge(clusters::routes())
        .merge(health::routes())
}

/// Serves the same handlers at further paths, which are also described. Operation ids must be unique in the document
/// and name functions of generated clients, so those of the further paths end with the word given with each path.
fn also_at(others: &[(&str, &str)], (schemas, mut paths, methods): UtoipaMethodRouter<App>) -> UtoipaMethodRouter<App> {
    let described: Vec<_> = paths.paths.values().cloned().collect();
    for (path, word) in others {
        for item in &described {
            let mut item = item.clone();
            for operation in [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten() {
                if let Some(id) = &mut operation.operation_id {
                    id.push_str(word);
                }
            }
            paths.paths.insert((*path).to_owned(), item);
        }
    }
    (schemas, paths, methods)
}
