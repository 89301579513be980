//! Tells pages that runs have changed, so that what they show changes at once. It carries no facts: a page that is told
//! asks for itself anew. A page that is told nothing for a while asks anyway, for another server may run the task.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::http::App;

/// Changes that come as close as this together are told as one.
const TOGETHER: Duration = Duration::from_millis(150);

pub(super) async fn follow(State(app): State<App>) -> Response {
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
    let events = futures_util::StreamExt::boxed(events);
    let mut response = Sse::new(events).keep_alive(KeepAlive::default()).into_response();
    // Proxies that hold answers back would hold back the news.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
