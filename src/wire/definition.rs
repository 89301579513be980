//! Definitions on the wire.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{Definition, DefinitionUpdate, EnvVar, Faults, NewDefinition};

/// An environment variable. In a request, an omitted value means an empty one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = EnvVar)]
pub struct EnvVarBody {
    #[schema(example = "NAME")]
    pub name: String,
    #[schema(value_type = String, example = "value")]
    pub value: Option<String>,
}

impl From<EnvVarBody> for EnvVar {
    fn from(body: EnvVarBody) -> Self {
        Self { name: body.name, value: body.value.unwrap_or_default() }
    }
}

impl From<&EnvVar> for EnvVarBody {
    fn from(var: &EnvVar) -> Self {
        Self { name: var.name.clone(), value: Some(var.value.clone()) }
    }
}

/// Body for creating or updating a task definition. Creation requires `image`, `command` and `group_name`; in an
/// update, an omitted field keeps its value and `[]` empties a list. Unknown fields are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DefinitionUpdate)]
pub struct DefinitionBody {
    /// Unique among live definitions.
    #[schema(example = "hello-world")]
    pub alias: Option<String>,
    /// The owning group; fixed after creation.
    #[schema(example = "examples")]
    pub group_name: Option<String>,
    /// `[registry[:port]/]name[:tag]`
    #[schema(example = "library/ubuntu:latest")]
    pub image: Option<String>,
    /// Run by a shell; may contain newlines.
    #[schema(example = "echo hello")]
    pub command: Option<String>,
    pub env: Option<Vec<EnvVarBody>>,
    /// Older name of `env`.
    pub environment: Option<Vec<EnvVarBody>>,
    /// Megabytes.
    #[schema(example = 512)]
    pub memory: Option<i64>,
    /// Thousandths of a core.
    #[schema(example = 500)]
    pub cpu: Option<i64>,
    /// Whole GPUs.
    pub gpu: Option<i64>,
    pub tags: Option<Vec<String>>,
    /// User that the command runs as in the container.
    pub user: Option<String>,
    /// Megabytes of scratch disk.
    pub ephemeral_storage: Option<i64>,
    pub ports: Option<Vec<i64>>,
    pub adaptive_resource_allocation: Option<bool>,
    pub privileged: Option<bool>,
    pub task_type: Option<String>,
}

impl DefinitionBody {
    #[must_use]
    pub fn into_new(mut self) -> NewDefinition {
        let env = self.env.take().or(self.environment.take());
        NewDefinition { group_name: self.group_name.take(), fields: self.into_fields(env) }
    }

    /// The update that this body makes to the current definition. Clients of either API document may read a
    /// definition, change the variables under the name they know (`env` or `environment`), and send both back: the
    /// one that was changed counts.
    pub fn into_update(mut self, current: &Definition) -> Result<DefinitionUpdate, Faults> {
        if let Some(group_name) = self.group_name.take().filter(|name| *name != current.group_name) {
            let message = format!("can't change: it is {:?}, not {group_name:?}", current.group_name);
            return Err(Faults::one("group_name", message));
        }
        let current_env: Vec<EnvVarBody> = current.task.env.iter().map(EnvVarBody::from).collect();
        let env = match (self.env.take(), self.environment.take()) {
            (Some(env), Some(environment)) if env == environment || environment == current_env => Some(env),
            (Some(env), Some(environment)) if env == current_env => Some(environment),
            (Some(_), Some(_)) => {
                return Err(Faults::one("environment", "says something else than `env`; send one of them"));
            }
            (env, environment) => env.or(environment),
        };
        Ok(self.into_fields(env))
    }

    fn into_fields(self, env: Option<Vec<EnvVarBody>>) -> DefinitionUpdate {
        DefinitionUpdate {
            alias: self.alias,
            image: self.image,
            command: self.command,
            env: env.map(|env| env.into_iter().map(EnvVar::from).collect()),
            memory_mb: self.memory,
            cpu_millis: self.cpu,
            gpu: self.gpu,
            ephemeral_storage_mb: self.ephemeral_storage,
            tags: self.tags,
            user: self.user,
            ports: self.ports,
            adaptive_resource_allocation: self.adaptive_resource_allocation,
            privileged: self.privileged,
            task_type: self.task_type,
        }
    }
}

/// A task definition. Fields without a value are omitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Definition)]
pub struct TaskDefinition {
    /// `<group_name>-<uuid>`
    pub definition_id: String,
    /// Empty if it has none.
    pub alias: String,
    pub group_name: String,
    pub image: String,
    pub command: String,
    pub env: Vec<EnvVarBody>,
    /// Older name of `env`: the same list.
    pub environment: Vec<EnvVarBody>,
    /// Megabytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<i64>,
    /// Thousandths of a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<i64>,
    pub tags: Vec<String>,
    /// User that the command runs as in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Megabytes of scratch disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<i64>,
    pub ports: Vec<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive_resource_allocation: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    pub task_type: String,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

impl From<Definition> for TaskDefinition {
    fn from(definition: Definition) -> Self {
        let env: Vec<_> = definition.task.env.iter().map(EnvVarBody::from).collect();
        let task = definition.task;
        Self {
            definition_id: definition.definition_id.to_string(),
            alias: definition.alias.unwrap_or_default(),
            group_name: definition.group_name,
            image: task.image,
            command: task.command,
            environment: env.clone(),
            env,
            memory: task.memory_mb,
            cpu: task.cpu_millis,
            gpu: task.gpu,
            tags: task.tags,
            user: task.user,
            ephemeral_storage: task.ephemeral_storage_mb,
            ports: task.ports,
            adaptive_resource_allocation: task.adaptive_resource_allocation,
            privileged: task.privileged,
            task_type: definition.task_type,
            created_at: definition.created_at,
            updated_at: definition.updated_at,
        }
    }
}

/// Response to a deregistration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deregistered {
    pub definition_id: String,
    pub deleted: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as the field has it")]
    fn vars(value: &str) -> Option<Vec<EnvVarBody>> {
        Some(vec![EnvVarBody { name: "A".into(), value: Some(value.into()) }])
    }

    #[test]
    fn a_client_that_sends_both_names_back_means_the_one_it_changed() {
        let new = DefinitionBody {
            group_name: Some("g".into()),
            image: Some("i".into()),
            command: Some("c".into()),
            env: vars("old"),
            ..DefinitionBody::default()
        };
        let current = new.into_new().validate(Timestamp::UNIX_EPOCH).unwrap();
        let update = |env, environment| {
            let body = DefinitionBody { env, environment, ..DefinitionBody::default() };
            body.into_update(&current).map(|update| update.env.map(|env| env[0].value.clone()))
        };
        assert_eq!(update(vars("new"), vars("old")).unwrap().as_deref(), Some("new"));
        assert_eq!(update(vars("old"), vars("new")).unwrap().as_deref(), Some("new"));
        assert_eq!(update(None, vars("new")).unwrap().as_deref(), Some("new"));
        assert_eq!(update(None, None).unwrap(), None);
        assert!(update(vars("new"), vars("newer")).is_err());
    }
}
