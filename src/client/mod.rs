//! A typed client of the HTTP API: one method per route, with the bodies of `wire`.
//!
//! A plain request has a timeout. Following a log waits as long as the run takes: see `follow`.

mod error;
mod follow;
mod time;

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::{
    Cluster, ClusterAdopted, ClusterBody, ClusterDetailList, DefinitionBody, DefinitionList, ErrorBody, EventList,
    LOG_COMPLETE, LaunchBody, LogChunk, Run, RunList, StoppedRun, TaskDefinition,
};

pub use error::ClientError;
pub use follow::LogEvent;
use time::ServerTime;

/// How long an available machine may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of any plain request, including a launch whose image is looked up.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a stream may be silent before the connection counts as broken; the server sends keep-alives more often.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(90);

/// One server, spoken to over kept connections; copies share them.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    server: Url,
    time: ServerTime,
}

/// A log as it is stored.
pub struct RawLog {
    pub bytes: BoxStream<'static, Result<Bytes, ClientError>>,
    /// The run has stopped, and the server does not have the end of its log yet.
    pub is_end_missing: bool,
}

/// Which definitions are listed, newest first.
#[derive(Debug, Clone, Default)]
pub struct DefinitionFilter {
    pub alias: Option<String>,
    pub group_name: Option<String>,
    pub tag: Option<String>,
    pub limit: Option<u32>,
}

/// Which runs are listed, newest first.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Any of them; empty is all.
    pub statuses: Vec<String>,
    /// The same.
    pub outcomes: Vec<String>,
    pub alias: Option<String>,
    pub definition_id: Option<String>,
    pub cluster: Option<String>,
    pub limit: Option<u32>,
}

impl Client {
    /// A client of the server at `server`, which may lie below a path. Nothing is sent yet.
    pub fn new(server: Url) -> Result<Self, ClientError> {
        // More than one library brings a TLS implementation; this selects one for the whole process.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_TIMEOUT)
            .user_agent(concat!("flotilla/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&server) {
            // A proxy's loopback is another machine's.
            http = http.no_proxy();
        }
        if server.scheme() == "http" {
            // Reading the machine's certificates costs more than a whole request.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(|error| ClientError::unreachable(&server, &error))?;
        Ok(Self { http, server, time: ServerTime::default() })
    }

    /// The server's time according to its answers; `local` if it has not answered yet.
    #[must_use]
    pub fn now(&self, local: Timestamp) -> Timestamp {
        self.time.now(local)
    }

    pub async fn define(&self, definition: &DefinitionBody) -> Result<TaskDefinition, ClientError> {
        self.send(self.put_json(Method::POST, &["api", "v1", "task"], definition)?).await
    }

    /// Changes what `update` holds; a field left out keeps its value.
    pub async fn update(&self, id: &str, update: &DefinitionBody) -> Result<TaskDefinition, ClientError> {
        self.send(self.put_json(Method::PUT, &["api", "v1", "task", id], update)?).await
    }

    pub async fn task(&self, id: &str) -> Result<TaskDefinition, ClientError> {
        self.send(self.get(&["api", "v1", "task", id])?).await
    }

    pub async fn task_by_alias(&self, alias: &str) -> Result<TaskDefinition, ClientError> {
        self.send(self.get(&["api", "v1", "task", "alias", alias])?).await
    }

    pub async fn tasks(&self, filter: &DefinitionFilter) -> Result<DefinitionList, ClientError> {
        let mut query = Vec::new();
        query.extend(filter.alias.as_ref().map(|alias| ("alias", alias.clone())));
        query.extend(filter.group_name.as_ref().map(|group_name| ("group_name", group_name.clone())));
        query.extend(filter.tag.as_ref().map(|tag| ("tag", tag.clone())));
        query.extend(filter.limit.map(|limit| ("limit", limit.to_string())));
        self.send(self.get(&["api", "v1", "task"])?.query(&query)).await
    }

    /// Launches the definition of this alias. Without an answer, the run may still have been accepted.
    pub async fn launch_by_alias(&self, alias: &str, launch: &LaunchBody) -> Result<Run, ClientError> {
        self.send(self.put_json(Method::PUT, &["api", "v1", "task", "alias", alias, "execute"], launch)?).await
    }

    pub async fn launch(&self, id: &str, launch: &LaunchBody) -> Result<Run, ClientError> {
        self.send(self.put_json(Method::PUT, &["api", "v4", "task", id, "execute"], launch)?).await
    }

    pub async fn run(&self, run_id: &str) -> Result<Run, ClientError> {
        self.send(self.get(&["api", "v1", "history", run_id])?).await
    }

    pub async fn runs(&self, filter: &RunFilter) -> Result<RunList, ClientError> {
        let mut query = vec![("sort_by", "queued_at".to_owned()), ("order", "desc".to_owned())];
        query.extend(filter.statuses.iter().map(|status| ("status", status.clone())));
        query.extend(filter.outcomes.iter().map(|outcome| ("outcome", outcome.clone())));
        query.extend(filter.alias.as_ref().map(|alias| ("alias", alias.clone())));
        query.extend(filter.definition_id.as_ref().map(|id| ("definition_id", id.clone())));
        query.extend(filter.cluster.as_ref().map(|cluster| ("cluster_name", cluster.clone())));
        query.extend(filter.limit.map(|limit| ("limit", limit.to_string())));
        self.send(self.get(&["api", "v1", "history"])?.query(&query)).await
    }

    /// Asks the run to stop; the answer comes before it has stopped. A run that has ended is unchanged.
    pub async fn stop(&self, definition_id: &str, run_id: &str) -> Result<StoppedRun, ClientError> {
        let url = self.url(&["api", "v1", "task", definition_id, "history", run_id])?;
        self.send(self.http.request(Method::DELETE, url)).await
    }

    pub async fn clusters(&self) -> Result<ClusterDetailList, ClientError> {
        self.send(self.get(&["api", "v6", "clusters"])?).await
    }

    /// Changes what `change` holds; a field left out keeps its value.
    pub async fn change_cluster(&self, name: &str, change: &ClusterBody) -> Result<Cluster, ClientError> {
        self.send(self.put_json(Method::PUT, &["api", "v6", "clusters", name], change)?).await
    }

    /// Assigns the runs of a cluster's former engine to its current one.
    pub async fn adopt(&self, name: &str) -> Result<ClusterAdopted, ClientError> {
        self.send(self.http.request(Method::POST, self.url(&["api", "v6", "clusters", name, "adopt"])?)).await
    }

    pub async fn events(&self, run_id: &str) -> Result<EventList, ClientError> {
        self.send(self.get(&["api", "v1", run_id, "events"])?).await
    }

    /// The part of a log after `last_seen`, or its beginning, up to the size of one answer.
    pub async fn log(&self, run_id: &str, last_seen: Option<&str>) -> Result<LogChunk, ClientError> {
        self.send(self.get(&["api", "v1", run_id, "logs"])?.query(&last_seen.map(|token| [("last_seen", token)]))).await
    }

    /// The whole log as it is now, byte for byte.
    pub async fn raw_log(&self, run_id: &str) -> Result<RawLog, ClientError> {
        let request = self.get(&["api", "v1", run_id, "logs"])?.query(&[("raw_text", "true")]);
        let server = self.server.clone();
        let response = self.open(request).await?;
        let is_end_missing = response.headers().get(LOG_COMPLETE).is_some_and(|value| value == "false");
        let bytes = response.bytes_stream().map_err(move |error| ClientError::no_answer(&server, &error)).boxed();
        Ok(RawLog { bytes, is_end_missing })
    }

    /// The log from its beginning until the run has ended, over broken connections and restarts of the server.
    #[must_use]
    pub fn follow_log(&self, run_id: &str) -> BoxStream<'static, Result<LogEvent, ClientError>> {
        follow::follow(self.clone(), run_id.to_owned())
    }

    fn get(&self, path: &[&str]) -> Result<RequestBuilder, ClientError> {
        Ok(self.http.request(Method::GET, self.url(path)?))
    }

    fn put_json(&self, method: Method, path: &[&str], body: &impl Serialize) -> Result<RequestBuilder, ClientError> {
        Ok(self.http.request(method, self.url(path)?).json(body))
    }

    /// The address of a route. Names that a path can't hold are refused: RFC 3986 treats `.` and `..` as path
    /// navigation, even if percent-encoded, so the request would reach another route.
    fn url(&self, path: &[&str]) -> Result<Url, ClientError> {
        if let Some(name) = path.iter().find(|name| matches!(**name, "" | "." | "..")) {
            return Err(ClientError::BadName((*name).to_owned()));
        }
        let mut url = self.server.clone();
        url.path_segments_mut()
            .map_err(|()| ClientError::BadName(self.server.to_string()))?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.open(request.timeout(REQUEST_TIMEOUT)).await?;
        let bytes = response.bytes().await.map_err(|error| ClientError::no_answer(&self.server, &error))?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::unexpected(&self.server, None, &error))
    }

    /// The answer once the server has accepted the request, with its body still to come.
    async fn open(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let sent = tokio::time::timeout(REQUEST_TIMEOUT, request.send()).await;
        let response = sent
            .map_err(|_| ClientError::silent(&self.server, REQUEST_TIMEOUT))?
            .map_err(|error| ClientError::not_sent(&self.server, &error))?;
        self.time.note(response.headers());
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = tokio::time::timeout(REQUEST_TIMEOUT, response.bytes()).await;
        let body = body.ok().and_then(Result::ok).unwrap_or_default();
        Err(match serde_json::from_slice(&body) {
            Ok(ErrorBody { error }) => ClientError::Refused { status: status.as_u16(), error },
            Err(_) => {
                let cause = format!("it says {status}, without a reason");
                ClientError::unexpected(&self.server, Some(status.as_u16()), &cause)
            }
        })
    }
}

fn is_loopback(server: &Url) -> bool {
    let host = server.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(server: &str) -> Client {
        Client::new(server.parse().unwrap()).unwrap()
    }

    #[test]
    fn names_are_encoded_into_the_path_and_below_the_servers_own() {
        let url = |server: &str, name: &str| client(server).url(&["api", "v1", name]).unwrap().to_string();
        assert_eq!(url("http://h:1", "a b/c?d#e%"), "http://h:1/api/v1/a%20b%2Fc%3Fd%23e%25");
        assert_eq!(url("http://h:1/", "ä"), "http://h:1/api/v1/%C3%A4");
        assert_eq!(url("https://h/below/", "x"), "https://h/below/api/v1/x");
        assert_eq!(url("https://h/below", "x"), "https://h/below/api/v1/x");
    }

    #[test]
    fn a_name_that_would_lead_to_another_route_is_refused() {
        for name in ["", ".", ".."] {
            assert!(matches!(client("http://h").url(&["api", name]), Err(ClientError::BadName(_))), "{name:?}");
        }
    }

    #[test]
    fn the_own_machine_is_not_asked_through_a_proxy() {
        for (server, expected) in
            [("http://127.0.0.1:3000", true), ("http://[::1]", true), ("http://localhost", true), ("http://h", false)]
        {
            assert_eq!(is_loopback(&server.parse().unwrap()), expected, "{server}");
        }
    }
}
