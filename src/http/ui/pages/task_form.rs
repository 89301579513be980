//! The form to create, copy or edit a task. The server validates it; the input is kept.

use askama::Template;
use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use jiff::Timestamp;

use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::request::InPath;
use crate::http::ui::parts::form::{
    Act, EnvRow, Fields, Form, TextRow, env_of, env_rows, read_env_rows, read_text_rows, repeats_in, sentence,
    text_rows, texts_of,
};
use crate::http::ui::parts::layout;
use crate::http::ui::parts::layout::{Layout, Section};
use crate::http::ui::parts::links;
use crate::http::ui::parts::state::Icon;
use crate::http::{App, Asked};
use crate::model::{Definition, DefinitionId, DefinitionUpdate, Faults, NameList, NewDefinition, TaskSpec};
use crate::service::ServiceError;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/ui/tasks/new", get(new).post(create))
        .route("/ui/tasks/{definition_id}/edit", get(edit).post(update))
}

/// Maximum number of groups and tags suggested.
const SUGGESTED: u32 = 200;

const FIELDS: [&str; 10] =
    ["alias", "group_name", "image", "command", "memory", "cpu", "gpu", "ephemeral_storage", "user", "ports"];

#[derive(Template)]
#[template(path = "task_form.html")]
pub struct TaskFormPage {
    layout: Layout,
    title: String,
    /// The page of the task that is edited or copied, with its name.
    parent: Option<(String, String)>,
    submit: &'static str,
    fields: Fields,
    env: Vec<EnvRow>,
    tags: Vec<TextRow>,
    is_privileged: bool,
    /// The group is part of the id, so that an existing task's group can't change.
    is_group_fixed: bool,
    /// When the task was last changed as far as this form knows, so that unseen changes are not overwritten.
    seen: Option<Timestamp>,
    /// The error of the form as a whole.
    problem: Option<String>,
    groups: Vec<String>,
    known_tags: Vec<String>,
}

/// What the form edits.
enum Subject {
    New,
    CopyOf(Definition),
    Edit(Definition),
}

impl Subject {
    /// The task that the form was prefilled with.
    fn shown(&self) -> Option<&TaskSpec> {
        match self {
            Self::New => None,
            Self::CopyOf(definition) | Self::Edit(definition) => Some(&definition.task),
        }
    }
}

async fn new(app: Asked, mut params: Params) -> Result<Response, ApiError> {
    let from = params.last("from");
    params.finish()?;
    let subject = subject_of_new(&app, from).await?;
    let mut page = TaskFormPage::empty(&subject);
    if let Subject::CopyOf(definition) = &subject {
        page.fill(definition);
        page.fields.set("alias", definition.alias.as_ref().map(|alias| format!("{alias}-copy")).unwrap_or_default());
    }
    answer(&app, StatusCode::OK, page).await
}

async fn create(app: Asked, mut params: Params, form: Form) -> Result<Response, ApiError> {
    let from = params.last("from");
    params.finish()?;
    let subject = subject_of_new(&app, from).await?;
    submit(&app, &subject, &form).await
}

async fn edit(app: Asked, InPath(id): InPath<String>) -> Result<Response, ApiError> {
    let definition = app.service.definition(&DefinitionId::from_text(id)).await?;
    let subject = Subject::Edit(definition);
    let mut page = TaskFormPage::empty(&subject);
    if let Subject::Edit(definition) = &subject {
        page.fill(definition);
    }
    answer(&app, StatusCode::OK, page).await
}

async fn update(app: Asked, InPath(id): InPath<String>, form: Form) -> Result<Response, ApiError> {
    let definition = app.service.definition(&DefinitionId::from_text(id)).await?;
    submit(&app, &Subject::Edit(definition), &form).await
}

async fn subject_of_new(app: &Asked, from: Option<String>) -> Result<Subject, ApiError> {
    Ok(match from {
        Some(id) => Subject::CopyOf(app.service.definition(&DefinitionId::from_text(id)).await?),
        None => Subject::New,
    })
}

/// Stores what was typed and leads to the task, or shows it again.
async fn submit(app: &Asked, subject: &Subject, form: &Form) -> Result<Response, ApiError> {
    let act = form.act();
    let mut page = TaskFormPage::empty(subject);
    let seen = page.seen;
    page.take(form, &act);
    let (new, mut faults) = page.read(form, subject.shown());
    let current = match subject {
        Subject::Edit(definition) => Some(definition),
        Subject::New | Subject::CopyOf(_) => None,
    };
    if matches!(act, Act::AddRow(_) | Act::RemoveRow(..)) {
        return answer(app, StatusCode::OK, page).await;
    }
    let is_readable = faults.is_empty();
    // A name that is taken is reported together with the other errors, not only once these are corrected.
    faults.extend(app.service.check(new.clone(), current).await?);
    if act == Act::Check || !is_readable {
        let status = if act == Act::Check { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        page.show(faults);
        return answer(app, status, page).await;
    }
    let stored = match current {
        Some(current) => {
            app.service.replace(&current.definition_id, new, page.seen.unwrap_or(current.updated_at)).await
        }
        None => app.service.define(new).await,
    };
    match stored {
        Ok(definition) => Ok(Redirect::to(&links::task(&definition.definition_id)).into_response()),
        Err(ServiceError::Faulty(refused)) => {
            page.show(if faults.is_empty() { refused } else { faults });
            answer(app, StatusCode::BAD_REQUEST, page).await
        }
        Err(ServiceError::AliasTaken(alias)) => {
            page.show(Faults::one("alias", format!("{alias:?} is taken by another task")));
            answer(app, StatusCode::CONFLICT, page).await
        }
        Err(ServiceError::Conflict(message)) => {
            page.problem = Some(sentence(&message));
            page.seen = seen;
            answer(app, StatusCode::CONFLICT, page).await
        }
        Err(error) => Err(error.into()),
    }
}

async fn answer(app: &Asked, status: StatusCode, mut page: TaskFormPage) -> Result<Response, ApiError> {
    let (groups, tags) = tokio::try_join!(
        app.service.names(NameList::Groups, "", SUGGESTED, 0),
        app.service.names(NameList::Tags, "", SUGGESTED, 0),
    )?;
    (page.groups, page.known_tags) = (groups.rows, tags.rows);
    Ok(layout::html_with(status, &page))
}

impl TaskFormPage {
    fn empty(subject: &Subject) -> Self {
        let name =
            |definition: &Definition| definition.alias.clone().unwrap_or_else(|| definition.definition_id.to_string());
        let parent = |definition: &Definition| Some((links::task(&definition.definition_id), name(definition)));
        let (title, parent, submit, seen) = match subject {
            Subject::New => ("New task".to_owned(), None, "Create task", None),
            Subject::CopyOf(definition) => {
                (format!("Copy of {}", name(definition)), parent(definition), "Create task", None)
            }
            Subject::Edit(definition) => {
                (format!("Edit {}", name(definition)), parent(definition), "Save", Some(definition.updated_at))
            }
        };
        Self {
            layout: Layout::new(Section::Tasks),
            title,
            parent,
            submit,
            fields: Fields::default(),
            env: env_rows(&[]),
            tags: text_rows(&[]),
            is_privileged: false,
            is_group_fixed: matches!(subject, Subject::Edit(_)),
            seen,
            problem: None,
            groups: Vec::new(),
            known_tags: Vec::new(),
        }
    }

    /// Fills the form with a stored definition.
    fn fill(&mut self, definition: &Definition) {
        let task = &definition.task;
        let ports: Vec<_> = task.ports.iter().map(i64::to_string).collect();
        self.fields.set_some("alias", definition.alias.as_ref());
        self.fields.set("group_name", &definition.group_name);
        self.fields.set("image", &task.image);
        self.fields.set("command", &task.command);
        self.fields.set_some("memory", task.memory_mb);
        self.fields.set_some("cpu", task.cpu_millis);
        self.fields.set_some("gpu", task.gpu);
        self.fields.set_some("ephemeral_storage", task.ephemeral_storage_mb);
        self.fields.set_some("user", task.user.as_ref());
        self.fields.set("ports", ports.join(" "));
        self.env = env_rows(&task.env);
        self.tags = text_rows(&task.tags);
        self.is_privileged = task.privileged.unwrap_or_default();
    }

    /// Fills the form with the input.
    fn take(&mut self, form: &Form, act: &Act) {
        let group = self.fields.value("group_name").to_owned();
        self.fields = form.fields(&FIELDS);
        if self.is_group_fixed && self.fields.value("group_name").is_empty() {
            self.fields.set("group_name", group);
        }
        self.env = read_env_rows(form, act);
        self.tags = read_text_rows(form, "tags", act);
        self.is_privileged = !form.text("privileged").is_empty();
        if let Ok(seen) = form.text("seen").parse() {
            self.seen = Some(seen);
        }
    }

    /// The definition entered into a form that was prefilled with this task, and the faults of values that can't be
    /// parsed.
    fn read(&self, form: &Form, shown: Option<&TaskSpec>) -> (NewDefinition, Faults) {
        let mut faults = Faults::default();
        let ports = form.text("ports").split([' ', ',', '\t', '\n']).filter(|port| !port.is_empty());
        let ports = ports.filter_map(|port| {
            let number = port.parse().ok();
            if number.is_none() {
                faults.add("ports", format!("must be whole numbers, not {port:?}"));
            }
            number
        });
        let ports = Some(ports.collect());
        let env = env_of(&self.env, shown.map_or(&[], |shown| shown.env.as_slice()));
        faults.extend(repeats_in(&env));
        let fields = DefinitionUpdate {
            ports,
            alias: form.line("alias"),
            image: form.line("image"),
            command: Some(form.area_or_kept("command", shown.map(|shown| shown.command.as_str()))),
            env: Some(env),
            memory_mb: form.number("memory", &mut faults),
            cpu_millis: form.number("cpu", &mut faults),
            gpu: form.number("gpu", &mut faults),
            ephemeral_storage_mb: form.number("ephemeral_storage", &mut faults),
            tags: Some(texts_of(&self.tags)),
            user: form.line_or_kept("user", shown.and_then(|shown| shown.user.as_deref())),
            // Unset is not the same as `false`.
            privileged: self.is_privileged.then_some(true).or(shown.and_then(|shown| shown.privileged.map(|_| false))),
            adaptive_resource_allocation: None,
            task_type: None,
        };
        (NewDefinition { group_name: form.line("group_name"), fields }, faults)
    }

    fn show(&mut self, faults: Faults) {
        self.fields.show(faults, &mut self.env, &mut self.tags);
    }

    /// Whether the collapsed part contains any values.
    fn has_more(&self) -> bool {
        let more = ["ephemeral_storage", "user", "ports"];
        self.is_privileged || more.iter().any(|name| !self.fields.value(name).is_empty())
    }

    #[cfg(test)]
    pub fn sample() -> Self {
        let mut page = Self::empty(&Subject::New);
        page.fields.set("command", "</textarea><script>alert(1)</script>");
        page.problem = Some("A <b>problem</b>.".to_owned());
        page.env[0].name = "\"><b>".to_owned();
        page.show(Faults::one("env[0].name", "must not hold <>"));
        page.known_tags = vec!["a&b".to_owned()];
        page
    }
}
