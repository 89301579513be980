//! The launch form: the task's own values filled in, optional fields collapsed.
//!
//! A form carries a key that is stored with its launch, so that a double click or a reload launches only once. The
//! input is part of the key: going back and changing something results in another launch.

use axum::Router;
use axum::routing::{get, post};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use askama::Template;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use sha2::{Digest, Sha256};

use super::task::name;
use crate::http::base::at;
use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::request::InPath;
use crate::http::ui::HOME;
use crate::http::ui::parts::form::{
    Act, EnvRow, Fields, Form, env_of, env_rows, in_area, in_line, read_env_rows, repeats_in, sentence,
};
use crate::http::ui::parts::layout;
use crate::http::ui::parts::layout::{Layout, Section};
use crate::http::ui::parts::links;
use crate::http::ui::parts::state::Icon;
use crate::http::ui::parts::words;
use crate::http::{App, Asked};
use crate::model::{
    Cluster, ClusterStatus, Definition, DefinitionId, EnvVar, Faults, LaunchRequest, Owner, RunId, merge_env,
};
use crate::service::{DEFAULT_CLUSTER, ServiceError};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/ui/tasks/{definition_id}/launch", get(page).post(submit))
        .route("/ui/runs/{run_id}/again", post(again))
}

const FIELDS: [&str; 14] = [
    "cluster",
    "owner",
    "image",
    "command",
    "memory",
    "cpu",
    "gpu",
    "ephemeral_storage",
    "active_deadline_seconds",
    "node_lifecycle",
    "description",
    "arch",
    "tier",
    "service_account",
];
/// The run tag that holds the owner.
const OWNER_TAG: &str = "owner_id";
const OWNER_COOKIE: &str = "flotilla_owner";
const YEAR_SECS: u32 = 365 * 24 * 3600;
/// Prefix of a form's key, to distinguish it from keys chosen by programs.
const KEY_PREFIX: &str = "page-";

/// Maximum length of the definition's value shown beside a changed variable.
const VALUE_CHARS: usize = 200;

#[derive(Template)]
#[template(path = "launch.html")]
pub struct LaunchPage {
    layout: Layout,
    name: String,
    task_address: String,
    /// The run that is launched again, with its URL.
    again: Option<(String, String)>,
    nonce: String,
    fields: Fields,
    env: Vec<EnvRow>,
    clusters: Vec<Choice>,
    is_owner_required: bool,
    /// The values that the overrides replace, shown while a field is empty.
    definition: Definition,
    problem: Option<String>,
}

async fn page(
    app: Asked,
    InPath(id): InPath<String>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let from = params.last("from");
    params.finish()?;
    let definition = app.service.definition(&DefinitionId::from_text(id)).await?;
    let mut page = LaunchPage::new(&app, definition);
    page.fields.set("cluster", DEFAULT_CLUSTER);
    page.fields.set_some("owner", remembered_owner(&headers));
    page.env = page.rows(&[]);
    if let Some(run_id) = from {
        let run = app.service.run_of(&page.definition.definition_id, &run_id).await?;
        let again = app.service.again(&run, &page.definition);
        page.again = Some((words::short_id(run.run_id), links::run(run.run_id)));
        page.fill(&again);
    }
    answer(&app, StatusCode::OK, page).await
}

async fn submit(app: Asked, InPath(id): InPath<String>, mut params: Params, form: Form) -> Result<Response, ApiError> {
    let from = params.last("from");
    params.finish()?;
    let definition = app.service.definition(&DefinitionId::from_text(id)).await?;
    let mut page = LaunchPage::new(&app, definition);
    let act = form.act();
    page.take(&form, &act);
    // The values that the form was prefilled with.
    let mut shown = LaunchRequest::default();
    if let Some(run_id) = from {
        let run = app.service.run_of(&page.definition.definition_id, &run_id).await?;
        page.again = Some((words::short_id(run.run_id), links::run(run.run_id)));
        shown = app.service.again(&run, &page.definition);
    }
    let (mut request, mut faults) = page.read(&form, &shown);
    keep_what_no_field_shows(&mut request, shown);
    if act != Act::Do {
        page.show(faults);
        return answer(&app, StatusCode::OK, page).await;
    }
    if !faults.is_empty() {
        faults.extend(app.service.check_launch(&page.definition, request).await?);
        page.show(faults);
        return answer(&app, StatusCode::BAD_REQUEST, page).await;
    }
    let owner = form.line("owner").unwrap_or_default();
    match app.service.launch(&page.definition.definition_id, request).await {
        Ok(run) => Ok(launched(run.run_id, &owner)),
        Err(ServiceError::Faulty(faults)) => {
            page.show(faults);
            answer(&app, StatusCode::BAD_REQUEST, page).await
        }
        Err(ServiceError::Invalid(message)) => {
            page.problem = Some(sentence(&message));
            answer(&app, StatusCode::BAD_REQUEST, page).await
        }
        Err(error) => Err(error.into()),
    }
}

/// The page with the clusters as they are now.
async fn answer(app: &Asked, status: StatusCode, mut page: LaunchPage) -> Result<Response, ApiError> {
    let chosen = page.fields.value("cluster");
    let clusters = app.service.clusters().await?.into_iter().filter(|cluster| cluster.engine.is_some());
    page.clusters = clusters.map(|cluster| Choice::new(&cluster, chosen)).collect();
    if !chosen.is_empty() && !page.clusters.iter().any(|choice| choice.is_chosen) {
        // Without this entry no cluster would be selected, and the run would silently go to another one.
        let name = chosen.to_owned();
        let state = "is not there any more".to_owned();
        page.clusters.push(Choice { value: name.clone(), name, state, is_ready: false, is_chosen: true });
    }
    Ok(layout::html_with(status, &page))
}

/// The same again, without another question. The form that asks for it carries a `nonce`, as that of a launch does.
async fn again(app: Asked, InPath(run_id): InPath<String>, form: Form) -> Result<Response, ApiError> {
    let run = app.service.run(&run_id).await?;
    let definition = app.service.definition(&run.definition_id).await?;
    let mut request = app.service.again(&run, &definition);
    request.idempotence_key = key(form.text("nonce"), [run_id.as_str()]);
    let run = app.service.launch(&definition.definition_id, request).await?;
    Ok(Redirect::to(&links::run(run.run_id)).into_response())
}

/// A value that a launching form carries so that it is carried out only once.
pub fn nonce() -> String {
    RunId::generate().to_string()
}

fn launched(run_id: RunId, owner: &str) -> Response {
    let mut response = Redirect::to(&links::run(run_id)).into_response();
    let encoded: String = form_urlencoded::byte_serialize(owner.as_bytes()).collect();
    let path = at(HOME);
    let cookie = format!("{OWNER_COOKIE}={encoded}; Path={path}; Max-Age={YEAR_SECS}; SameSite=Lax");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

fn remembered_owner(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let owner = cookies
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(OWNER_COOKIE)?.strip_prefix('='))?;
    let decoded = form_urlencoded::parse(format!("owner={owner}").as_bytes()).next()?.1.into_owned();
    Some(decoded).filter(|owner| !owner.is_empty())
}

/// Equal for the same form with the same input. A form without a nonce has no key.
fn key<'a>(nonce: &'a str, typed: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if nonce.is_empty() {
        return None;
    }
    let mut hasher = Sha256::new();
    for text in std::iter::once(nonce).chain(typed) {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    let mut key = KEY_PREFIX.to_owned();
    for byte in &hasher.finalize()[..16] {
        write!(key, "{byte:02x}").expect("writing to a string works");
    }
    Some(key)
}

fn keep_what_no_field_shows(request: &mut LaunchRequest, shown: LaunchRequest) {
    request.labels = shown.labels;
    // If the owner was submitted as shown, the tags that specify it are kept.
    let is_same = request.owner.run_tags.get(OWNER_TAG).map(String::as_str) == owner(&shown.owner);
    let typed = std::mem::take(&mut request.owner.run_tags);
    let is_owner = |name: &str| matches!(name, OWNER_TAG | "owner_email");
    let kept = shown.owner.run_tags.into_iter().filter(|(name, _)| is_same || !is_owner(name));
    request.owner.run_tags = kept.chain(typed.into_iter().filter(|_| !is_same)).collect();
}

/// The owner shown in a form.
fn owner(owner: &Owner) -> Option<&str> {
    let tag = |name: &str| owner.run_tags.get(name).map(String::as_str).filter(|value| !value.is_empty());
    tag(OWNER_TAG).or_else(|| tag("owner_email"))
}

/// A cluster that can be selected.
struct Choice {
    name: String,
    /// The value that a launch sends to select it.
    value: String,
    /// Its engine, and its load or the reason why it currently takes no runs.
    state: String,
    is_ready: bool,
    is_chosen: bool,
}

impl Choice {
    fn new(cluster: &Cluster, chosen: &str) -> Self {
        let Cluster { record, load, .. } = cluster;
        let trouble = match (&cluster.condition.unreachable, record.status) {
            (_, ClusterStatus::Maintenance) => Some("in maintenance: runs wait"),
            (_, ClusterStatus::Offline) => Some("offline: runs wait"),
            (Some(_), ClusterStatus::Active) => Some("can't be reached: runs wait"),
            (None, ClusterStatus::Active) => None,
        };
        let mut state = cluster.engine.unwrap_or_default().to_owned();
        match (trouble, cluster.max_running) {
            (Some(trouble), _) => state.push_str(&format!(", {trouble}")),
            (None, Some(most)) => state.push_str(&format!(", {} of {most} running", load.taken())),
            (None, None) => state.push_str(&format!(", {} running", load.taken())),
        }
        let waiting = load.queued + load.needs_retry;
        if waiting > 0 && trouble.is_none() {
            state.push_str(&format!(", {waiting} waiting"));
        }
        let value = if cluster.is_default { DEFAULT_CLUSTER.to_owned() } else { record.name.clone() };
        let is_chosen = chosen == value || chosen == record.name;
        Self { name: record.name.clone(), value, state, is_ready: trouble.is_none(), is_chosen }
    }
}

impl LaunchPage {
    fn new(app: &Asked, definition: Definition) -> Self {
        Self {
            layout: Layout::new(Section::Tasks),
            name: name(&definition),
            task_address: links::task(&definition.definition_id),
            again: None,
            nonce: nonce(),
            fields: Fields::default(),
            env: Vec::new(),
            clusters: Vec::new(),
            is_owner_required: app.service.is_owner_required(),
            definition,
            problem: None,
        }
    }

    /// Rows for the definition's variables merged with these; the names of the definition's variables are fixed.
    fn rows(&self, env: &[EnvVar]) -> Vec<EnvRow> {
        let mut rows = env_rows(&merge_env([self.definition.task.env.as_slice(), env]));
        self.compare(&mut rows);
        rows
    }

    /// Marks the rows whose names come from the definition, and those whose values differ from it.
    fn compare(&self, rows: &mut [EnvRow]) {
        let of_definition = merge_env([self.definition.task.env.as_slice()]);
        let of_definition: HashMap<_, _> = of_definition.iter().map(|var| (in_line(&var.name), var)).collect();
        for row in rows {
            let var = of_definition.get(&in_line(&row.name));
            row.is_fixed = var.is_some();
            let changed = var.filter(|var| in_area(&var.value) != in_area(&row.value));
            row.differs_from = changed.map(|var| words::excerpt(&var.value, VALUE_CHARS));
        }
    }

    /// Fills the form with an earlier launch.
    fn fill(&mut self, request: &LaunchRequest) {
        let fields = &mut self.fields;
        fields.set_some("owner", owner(&request.owner));
        fields.set_some("cluster", request.cluster.as_ref());
        fields.set_some("image", request.image.as_ref());
        fields.set_some("command", request.command.as_ref());
        fields.set_some("memory", request.memory_mb);
        fields.set_some("cpu", request.cpu_millis);
        fields.set_some("gpu", request.gpu);
        fields.set_some("ephemeral_storage", request.ephemeral_storage_mb);
        fields.set_some("active_deadline_seconds", request.active_deadline_secs);
        fields.set_some("node_lifecycle", request.node_lifecycle.as_ref());
        fields.set_some("description", request.description.as_ref());
        fields.set_some("arch", request.arch.as_ref());
        fields.set_some("tier", request.tier.as_ref());
        fields.set_some("service_account", request.service_account.as_ref());
        self.env = self.rows(&request.env);
    }

    /// Fills the form with the input.
    fn take(&mut self, form: &Form, act: &Act) {
        self.fields = form.fields(&FIELDS);
        let mut rows = read_env_rows(form, act);
        self.compare(&mut rows);
        self.env = rows;
        if let Some(nonce) = form.line("nonce") {
            self.nonce = nonce;
        }
    }

    /// The launch entered into a form that was prefilled with `shown`, and the faults of values that can't be parsed.
    fn read(&self, form: &Form, shown: &LaunchRequest) -> (LaunchRequest, Faults) {
        let mut faults = Faults::default();
        let owner = form.line_or_kept("owner", owner(&shown.owner)).map(|owner| (OWNER_TAG.to_owned(), owner));
        let command = Some(form.area_or_kept("command", shown.command.as_deref()));
        let env = env_of(&self.env, &merge_env([self.definition.task.env.as_slice(), &shown.env]));
        faults.extend(repeats_in(&env));
        let typed = FIELDS.iter().map(|name| form.text(name));
        let typed = typed.chain(env.iter().flat_map(|var| [var.name.as_str(), var.value.as_str()]));
        let line = |name: &str, shown: &Option<String>| form.line_or_kept(name, shown.as_deref());
        let request = LaunchRequest {
            idempotence_key: key(&self.nonce, typed),
            cluster: form.line("cluster"),
            owner: Owner { run_tags: owner.into_iter().collect() },
            image: form.line("image"),
            command: command.filter(|command| !command.trim().is_empty()),
            memory_mb: form.number("memory", &mut faults),
            cpu_millis: form.number("cpu", &mut faults),
            gpu: form.number("gpu", &mut faults),
            ephemeral_storage_mb: form.number("ephemeral_storage", &mut faults),
            node_lifecycle: form.line("node_lifecycle"),
            active_deadline_secs: form.seconds("active_deadline_seconds", &mut faults),
            labels: BTreeMap::new(),
            description: line("description", &shown.description),
            arch: line("arch", &shown.arch),
            tier: line("tier", &shown.tier),
            service_account: line("service_account", &shown.service_account),
            env,
        };
        (request, faults)
    }

    fn show(&mut self, faults: Faults) {
        let mut shown = Faults::default();
        for fault in faults {
            // The form has a single field for a map on the wire.
            let field = if fault.field.starts_with("run_tags") { "owner".to_owned() } else { fault.field };
            let message = if field == "owner" { "must be given, on one line".to_owned() } else { fault.message };
            shown.add(field, message);
        }
        self.fields.show(shown, &mut self.env, &mut []);
    }

    /// Whether any of the definition's values is overridden.
    fn has_overrides(&self) -> bool {
        let shown = ["cluster", "owner", "description"];
        FIELDS.iter().any(|name| !shown.contains(name) && !self.fields.value(name).is_empty())
    }

    const fn need_of_owner(&self) -> &'static str {
        if self.is_owner_required { "needed" } else { "optional" }
    }

    /// The overridden value, shown while the field is empty.
    #[expect(clippy::unused_self, clippy::ref_option, reason = "the template calls it, with references")]
    fn placeholder(&self, value: &Option<i64>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
}

#[cfg(test)]
impl LaunchPage {
    pub fn sample() -> Self {
        let mut definition = crate::model::sample::definition();
        definition.task.command = "</textarea>".to_owned();
        let mut page = Self {
            layout: Layout::new(Section::Tasks),
            name: name(&definition),
            task_address: links::task(&definition.definition_id),
            again: Some(("1234".to_owned(), "/ui/runs/1234".to_owned())),
            nonce: nonce(),
            fields: Fields::default(),
            env: Vec::new(),
            clusters: vec![Choice {
                name: "<b>".to_owned(),
                value: "default".to_owned(),
                state: "local, 1 of 4 running".to_owned(),
                is_ready: true,
                is_chosen: true,
            }],
            is_owner_required: true,
            definition,
            problem: Some("A <b>problem</b>.".to_owned()),
        };
        page.env = page.rows(&[EnvVar::new("A<", ""), EnvVar::new("B", "2")]);
        page.show(Faults::one("run_tags", "needs an owner"));
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_only_for_the_same_form_with_the_same_text() {
        let first = key("n", ["a", "b"]);
        assert!(first.as_ref().is_some_and(|key| key.starts_with("page-")));
        assert_eq!(first, key("n", ["a", "b"]));
        assert_ne!(first, key("n", ["ab", ""]));
        assert_ne!(first, key("m", ["a", "b"]));
        assert_eq!(key("", ["a"]), None);
    }

    #[test]
    fn an_owner_is_remembered_whatever_the_name() {
        for owner in ["ada", "Ada Lövelace; x=y", "a&b=c%"] {
            let response = launched(RunId::generate(), owner);
            let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
            let mut headers = HeaderMap::new();
            let sent = format!("other=1; {}", cookie.split(';').next().unwrap());
            headers.insert(header::COOKIE, HeaderValue::from_str(&sent).unwrap());
            assert_eq!(remembered_owner(&headers).as_deref(), Some(owner));
        }
        assert_eq!(remembered_owner(&HeaderMap::new()), None);
    }
}
