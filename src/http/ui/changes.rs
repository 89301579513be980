//! Updates for all open pages of a browser in one request: whether runs have changed, the current extent of the logs
//! on display, and the server's time. It carries no facts about runs: a page that learns of a change reloads its own
//! data.
//!
//! A request says what its sender knows, and is answered as soon as there is more, or after `wait` seconds. So
//! nothing is lost between two requests, a dead connection is noticed by the missing response, and one connection
//! serves all windows of a browser (`assets/hub.js`): browsers allow only a few per server.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use uuid::Uuid;

use super::assets;
use crate::http::Asked;
use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::respond::ok;
use crate::http::streams::StreamPlace;
use crate::service::{LogExtent, ServiceError};

/// Changes within this time are reported together: nobody reads a log faster.
const TOGETHER: Duration = Duration::from_millis(250);
/// The longest that a request may wait: shorter than the timeouts that proxies usually have.
const LONGEST_WAIT_SECS: u64 = 20;
/// Maximum number of logs that one request may follow.
const MOST_LOGS: usize = 50;

/// Distinguishes this process from others, each of which counts its own changes.
static SERVER: LazyLock<String> = LazyLock::new(|| Uuid::new_v4().simple().to_string());

#[derive(Serialize)]
struct News {
    /// Version of the assets that current pages use.
    version: &'static str,
    server: &'static str,
    /// Incremented with each change that this process observes.
    changes: u64,
    /// The server's time, in milliseconds.
    now: i64,
    /// By run id; null if there is no such run.
    logs: BTreeMap<String, Option<Extent>>,
}

#[derive(Serialize)]
struct Extent {
    lines: u64,
    bytes: u64,
    is_complete: bool,
}

/// A log on display, with its extent as known to the reader: `RUN`, or `RUN:LINES:BYTES:COMPLETE`.
struct Log {
    run_id: String,
    known: Option<LogExtent>,
}

impl FromStr for Log {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (run_id, known) = match text.split_once(':') {
            None => (text, None),
            Some((run_id, known)) => {
                let parts: Vec<_> = known.split(':').collect();
                let read = |part: &str| part.parse::<u64>().ok();
                let extent = match parts[..] {
                    [lines, bytes, complete] => read(lines).zip(read(bytes)).zip(complete.parse::<bool>().ok()),
                    _ => None,
                };
                let ((lines, bytes), is_complete) =
                    extent.ok_or_else(|| format!("must be RUN or RUN:LINES:BYTES:COMPLETE, not {text:?}"))?;
                (run_id, Some(LogExtent { lines, bytes, is_complete }))
            }
        };
        Ok(Self { run_id: run_id.to_owned(), known })
    }
}

pub(super) async fn news(
    app: Asked,
    place: Result<StreamPlace, ApiError>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let is_same_server = params.last("server").is_some_and(|server| server == *SERVER);
    let known_changes = params.all_parsed::<u64>("changes").pop();
    let wait = params.all_parsed::<u64>("wait").pop().unwrap_or_default().min(LONGEST_WAIT_SECS);
    let logs = params.all_parsed::<Log>("log");
    params.finish()?;
    if logs.len() > MOST_LOGS {
        return Err(ApiError::invalid(format!("`log` is given {} times, at most {MOST_LOGS} are allowed", logs.len())));
    }
    let mut changes = app.service.change_count();
    // Another process's count is unrelated to this one's.
    let is_current = is_same_server && known_changes == Some(*changes.borrow_and_update());
    // If too many are waiting already, it is answered at once.
    if is_current && wait > 0 && place.is_ok() {
        let grown = async {
            let growths: FuturesUnordered<_> = logs.iter().map(|log| grown(&app, log)).collect();
            // Without any logs, only the other events end the wait.
            if growths.into_future().await.0.is_none() {
                std::future::pending::<()>().await;
            }
        };
        let is_news = tokio::select! {
            changed = changes.changed() => changed.is_ok(),
            () = grown => true,
            () = tokio::time::sleep(Duration::from_secs(wait)) => false,
            () = app.stop.cancelled() => false,
        };
        if is_news {
            app.stop.run_until_cancelled(tokio::time::sleep(TOGETHER)).await;
        }
    }
    // Read before the logs: a change in the meantime is reported by the next response.
    let changes = *changes.borrow();
    let mut extents = BTreeMap::new();
    for log in logs {
        extents.insert(log.run_id.clone(), extent(&app, &log.run_id).await?);
    }
    let now = app.service.now().as_millisecond();
    let mut response = ok(&News { version: assets::version(), server: &SERVER, changes, now, logs: extents });
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Waits until there is more of a log than its reader knows. One that can't be followed is reported by the answer.
async fn grown(app: &Asked, log: &Log) {
    if let Err(ServiceError::NotFound(_)) = app.service.log_growth(&log.run_id, log.known).await {
        std::future::pending::<()>().await;
    }
}

async fn extent(app: &Asked, run_id: &str) -> Result<Option<Extent>, ApiError> {
    match app.service.log_extent(run_id).await {
        Ok(LogExtent { lines, bytes, is_complete }) => Ok(Some(Extent { lines, bytes, is_complete })),
        Err(ServiceError::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
