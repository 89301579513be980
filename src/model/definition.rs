//! A definition: a task written down once and launched as often as needed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::env::check_env;
use super::{DefinitionId, EnvVar, Faults, ImageReference, Resources, limits};

/// What to run. A run keeps its own copy, so that later edits of the definition never change a past run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    pub image: String,
    pub command: String,
    pub env: Vec<EnvVar>,
    /// Megabytes; `None` leaves the limit to the cluster.
    pub memory_mb: Option<i64>,
    /// Thousandths of a core.
    pub cpu_millis: Option<i64>,
    pub gpu: Option<i64>,
    /// Megabytes of scratch disk.
    pub ephemeral_storage_mb: Option<i64>,
    pub tags: Vec<String>,
    /// The user the command runs as in the container.
    pub user: Option<String>,
    pub ports: Vec<i64>,
    pub adaptive_resource_allocation: Option<bool>,
    pub privileged: Option<bool>,
}

impl TaskSpec {
    /// The resources that a run of it asks for.
    #[must_use]
    pub fn resources(&self) -> Resources {
        let asked = |amount: Option<i64>| amount.filter(|amount| *amount > 0);
        Resources {
            memory_mb: asked(self.memory_mb),
            cpu_millis: asked(self.cpu_millis),
            gpus: asked(self.gpu),
            storage_mb: asked(self.ephemeral_storage_mb),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    pub definition_id: DefinitionId,
    pub alias: Option<String>,
    pub group_name: String,
    pub task: TaskSpec,
    pub task_type: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A definition as requested by a client, before validation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewDefinition {
    pub group_name: Option<String>,
    pub fields: DefinitionUpdate,
}

/// The fields of a partial update: `None` keeps a value, an empty list clears a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DefinitionUpdate {
    pub alias: Option<String>,
    pub image: Option<String>,
    pub command: Option<String>,
    pub env: Option<Vec<EnvVar>>,
    pub memory_mb: Option<i64>,
    pub cpu_millis: Option<i64>,
    pub gpu: Option<i64>,
    pub ephemeral_storage_mb: Option<i64>,
    pub tags: Option<Vec<String>>,
    pub user: Option<String>,
    pub ports: Option<Vec<i64>>,
    pub adaptive_resource_allocation: Option<bool>,
    pub privileged: Option<bool>,
    pub task_type: Option<String>,
}

const DEFAULT_TASK_TYPE: &str = "task";

impl NewDefinition {
    /// The resulting definition, or everything that is missing or wrong.
    pub fn validate(self, now: Timestamp) -> Result<Definition, Faults> {
        let mut faults = Faults::default();
        let needed = [
            ("image", self.fields.image.as_deref()),
            ("command", self.fields.command.as_deref()),
            ("group_name", self.group_name.as_deref()),
        ];
        for (field, value) in needed {
            if value.is_none_or(|value| value.trim().is_empty()) {
                faults.add(field, "is required");
            }
        }
        let group_name = self.group_name.unwrap_or_default();
        if !group_name.is_empty() {
            faults.check_name("group_name", &group_name);
            if group_name.contains('/') {
                faults.add(
                    "group_name",
                    format!("must not hold `/`, for it becomes part of the definition's id: {group_name:?}"),
                );
            }
        }
        let mut definition = Definition {
            definition_id: DefinitionId::generate(&group_name),
            alias: None,
            group_name,
            task: TaskSpec::default(),
            task_type: DEFAULT_TASK_TYPE.to_owned(),
            created_at: now,
            updated_at: now,
        };
        faults.extend(self.fields.check());
        definition.set(self.fields);
        faults.into_result(definition)
    }
}

impl DefinitionUpdate {
    /// Faults in the fields that are given.
    fn check(&self) -> Faults {
        let mut faults = Faults::default();
        if let Some(image) = self.image.as_deref().filter(|image| !image.is_empty()) {
            check_image(&mut faults, image);
        }
        if let Some(command) = &self.command {
            check_command(&mut faults, command);
        }
        if let Some(alias) = self.alias.as_deref().filter(|alias| !alias.is_empty()) {
            faults.check_name("alias", alias);
            if matches!(alias, "." | "..") {
                faults.add("alias", format!("must not be {alias:?}, which can't be used in an address"));
            }
        }
        if let Some(env) = &self.env {
            check_env(&mut faults, env);
        }
        faults.check_amount("memory", self.memory_mb, limits::MEGABYTES);
        faults.check_amount("cpu", self.cpu_millis, limits::CPU_MILLIS);
        faults.check_amount("gpu", self.gpu, limits::GPUS);
        faults.check_amount("ephemeral_storage", self.ephemeral_storage_mb, limits::MEGABYTES);
        for (i, tag) in self.tags.iter().flatten().enumerate() {
            faults.check_name(&format!("tags[{i}]"), tag);
        }
        for (i, port) in self.ports.iter().flatten().enumerate() {
            if !(1..=65_535).contains(port) {
                faults.add(format!("ports[{i}]"), format!("must be between 1 and 65535, not {port}"));
            }
        }
        for (field, items) in [("tags", self.tags.as_ref().map(Vec::len)), ("ports", self.ports.as_ref().map(Vec::len))]
        {
            if let Some(items) = items.filter(|items| *items > limits::LIST_ITEMS) {
                faults.add(field, format!("has {items} items, at most {} are allowed", limits::LIST_ITEMS));
            }
        }
        for (field, value) in [("user", &self.user), ("task_type", &self.task_type)] {
            if let Some(value) = value {
                faults.check_line(field, value, limits::NAME_BYTES);
            }
        }
        faults
    }
}

impl Definition {
    /// The definition after a partial update, or everything that is wrong with the update.
    pub fn updated(mut self, update: DefinitionUpdate, now: Timestamp) -> Result<Self, Faults> {
        let mut faults = update.check();
        for (field, value) in [("image", &update.image), ("command", &update.command)] {
            if value.as_ref().is_some_and(|value| value.trim().is_empty()) {
                faults.add(field, "must not be empty");
            }
        }
        self.set(update);
        self.updated_at = now;
        faults.into_result(self)
    }

    /// The definition with every field of the edit form taken from `new`, including fields left empty, or everything
    /// that is wrong.
    pub fn replaced(self, new: NewDefinition, now: Timestamp) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        if let Some(group_name) = new.group_name.as_ref().filter(|name| **name != self.group_name) {
            faults.add("group_name", format!("can't change: it is {:?}, not {group_name:?}", self.group_name));
        }
        let new = NewDefinition { group_name: Some(self.group_name.clone()), ..new };
        let new = new.validate(now).unwrap_or_else(|more| {
            faults.extend(more);
            self.clone()
        });
        let adaptive_resource_allocation = self.task.adaptive_resource_allocation;
        faults.into_result(Self {
            alias: new.alias,
            task: TaskSpec { adaptive_resource_allocation, ..new.task },
            updated_at: now,
            ..self
        })
    }

    fn set(&mut self, fields: DefinitionUpdate) {
        let task = &mut self.task;
        if let Some(alias) = fields.alias {
            self.alias = Some(alias).filter(|alias| !alias.is_empty());
        }
        if let Some(task_type) = fields.task_type.filter(|task_type| !task_type.is_empty()) {
            self.task_type = task_type;
        }
        if let Some(tags) = fields.tags {
            task.tags = without_repeats(tags);
        }
        if let Some(user) = fields.user {
            task.user = Some(user).filter(|user| !user.is_empty());
        }
        replace(&mut task.image, fields.image);
        replace(&mut task.command, fields.command.map(with_unix_lines));
        replace(&mut task.env, fields.env);
        replace(&mut task.ports, fields.ports);
        replace_some(&mut task.memory_mb, fields.memory_mb);
        replace_some(&mut task.cpu_millis, fields.cpu_millis);
        replace_some(&mut task.gpu, fields.gpu);
        replace_some(&mut task.ephemeral_storage_mb, fields.ephemeral_storage_mb);
        replace_some(&mut task.adaptive_resource_allocation, fields.adaptive_resource_allocation);
        replace_some(&mut task.privileged, fields.privileged);
    }
}

pub(super) fn check_image(faults: &mut Faults, image: &str) {
    if let Err(error) = image.parse::<ImageReference>() {
        faults.add("image", error.to_string());
    }
}

pub(super) fn check_command(faults: &mut Faults, command: &str) {
    faults.check_text("command", command, limits::COMMAND_BYTES);
}

/// A command with the line endings that shells expect: one that was written on Windows, or sent by a form, may use CR
/// LF, and a shell treats the CR as part of the line's last word.
pub(super) fn with_unix_lines(command: String) -> String {
    if command.contains("\r\n") { command.replace("\r\n", "\n") } else { command }
}

fn replace<T>(place: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *place = new;
    }
}

fn replace_some<T>(place: &mut Option<T>, new: Option<T>) {
    if new.is_some() {
        *place = new;
    }
}

fn without_repeats(tags: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    tags.into_iter().filter(|tag| seen.insert(tag.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> NewDefinition {
        NewDefinition {
            group_name: Some("science".into()),
            fields: DefinitionUpdate {
                image: Some("busybox:1".into()),
                command: Some("echo hi".into()),
                ..DefinitionUpdate::default()
            },
        }
    }

    #[test]
    fn all_missing_fields_are_named_at_once() {
        let faults = NewDefinition::default().validate(Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(
            faults.to_string(),
            "`image` is required; `command` is required; \
             `group_name` is required"
        );
    }

    #[test]
    fn an_update_keeps_what_it_leaves_out_and_empties_what_it_gives_empty() {
        let mut new = complete();
        new.fields.tags = Some(vec!["a".into(), "a".into(), "b".into()]);
        new.fields.env = Some(vec![EnvVar::new("A", "1")]);
        let definition = new.validate(Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(definition.task.tags, ["a", "b"]);

        let update = DefinitionUpdate { tags: Some(vec![]), memory_mb: Some(5), ..DefinitionUpdate::default() };
        let updated = definition.clone().updated(update, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(updated.task, TaskSpec { tags: vec![], memory_mb: Some(5), ..definition.task });
    }

    #[test]
    fn a_replacement_empties_what_it_leaves_out_and_keeps_who_it_is() {
        let mut new = complete();
        new.fields.memory_mb = Some(64);
        new.fields.alias = Some("old".into());
        new.fields.adaptive_resource_allocation = Some(true);
        let definition = new.validate(Timestamp::UNIX_EPOCH).unwrap();
        let replaced = definition.clone().replaced(complete(), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((replaced.task.memory_mb, &replaced.alias), (None, &None));
        assert_eq!(replaced.task.adaptive_resource_allocation, Some(true));
        assert_eq!(replaced.definition_id, definition.definition_id);

        let new = NewDefinition { group_name: Some("other".into()), fields: DefinitionUpdate::default() };
        let faults = definition.replaced(new, Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(
            faults.to_string(),
            "`group_name` can't change: it is \"science\", not \"other\"; `image` is required; \
             `command` is required"
        );
    }

    #[test]
    fn amounts_out_of_range_are_refused_with_their_value() {
        let mut new = complete();
        new.fields.memory_mb = Some(-5);
        new.fields.ports = Some(vec![80, 0]);
        let faults = new.validate(Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(
            faults.to_string(),
            "`memory` must be between 0 and 1073741824, not -5; `ports[1]` must be between 1 and 65535, not 0"
        );
    }

    #[test]
    fn a_command_longer_than_linux_can_start_is_refused() {
        let mut new = complete();
        new.fields.command = Some("x".repeat(limits::COMMAND_BYTES));
        new.clone().validate(Timestamp::UNIX_EPOCH).unwrap();
        new.fields.command = Some("x".repeat(limits::COMMAND_BYTES + 1));
        let faults = new.validate(Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(faults.to_string(), "`command` is 130049 bytes long, at most 130048 are allowed");
    }
}
