//! Tells pages that runs have changed, so that what they show changes at once. It carries no facts: a page that is told
//! asks for itself anew. A page that is told nothing for a while asks anyway, for another server may run the task.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use axum::response::sse::Event;
use futures_util::stream;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::http::App;
use crate::http::streams::StreamPlace;

/// Changes that come as close as this together are told as one.
const TOGETHER: Duration = Duration::from_millis(150);

pub(super) async fn follow(State(app): State<App>, place: StreamPlace) -> Response {
    let state = (app.service.on_change(), app.stop);
    let events = stream::unfold(state, |(mut changes, stop)| async move {
        let changed = stop.run_until_cancelled(changes.recv()).await?;
        if matches!(changed, Err(RecvError::Closed)) {
            return None;
        }
        stop.run_until_cancelled(tokio::time::sleep(TOGETHER)).await?;
        while matches!(changes.try_recv(), Ok(_) | Err(TryRecvError::Lagged(_))) {}
        Some((Ok::<_, Infallible>(Event::default().data("changed")), (changes, stop)))
    });
    place.answer(events)
}
