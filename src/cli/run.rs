//! `flotilla run`: launch a task, and follow it to its end if asked to.

use std::collections::BTreeMap;
use std::env;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::{Context, follow};
use crate::client::{Client, ClientError};
use crate::shutdown;
use crate::wire::{EnvVarBody, LaunchBody, Run};

/// The server's variable that tells a task in which run it is.
const RUN_ID_VARIABLE: &str = "FLOTILLA_RUN_ID";
/// The variable that makes a run a child of another.
const PARENT_VARIABLE: &str = "PARENT_FLOTILLA_RUN_ID";

const HELP: &str = "\
Examples:
  flotilla run hello                          launch it, and print its run id
  flotilla run hello -e NAME=you --follow     also print its log, and exit as it does
  flotilla run train -e TOKEN --memory 4096 --deadline 3600
  flotilla run report --idempotence-key 2026-01-31     once, however often this is repeated

With --follow the log goes to standard output, all else to standard error. Ctrl-C stops the
run and waits for its end; a second Ctrl-C leaves at once. The exit code is the task's own:
128+n where signal n ended it, 143 where the run was stopped before it started, and 1 where
it could not start or its end was not seen.

A run that is launched from within another run is its child: stopping the parent stops it.";

/// Launch a task
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct RunTask {
    /// The task's alias or definition id
    #[arg(value_name = "ALIAS")]
    task: String,
    /// Set a variable; without a value it is taken from here
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = parse_variable)]
    env: Vec<EnvVarBody>,
    /// Print the log as it comes, and exit with the task's exit code
    #[arg(short, long)]
    follow: bool,
    /// With --follow: give all of the log to a terminal, also what moves its cursor or gives it other commands
    #[arg(long)]
    raw: bool,
    /// The cluster to run on [default: default]
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Another command than the definition's
    #[arg(long, allow_hyphen_values = true)]
    command: Option<String>,
    /// Megabytes of memory
    #[arg(long, value_name = "MB", allow_negative_numbers = true)]
    memory: Option<i64>,
    /// Thousandths of a core
    #[arg(long, value_name = "MILLIS", allow_negative_numbers = true)]
    cpu: Option<i64>,
    /// Whose run this is
    #[arg(long, value_name = "ID")]
    owner: Option<String>,
    /// What it is for, in your words
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    description: Option<String>,
    /// A repeat with the same key gets the first run instead of a second one
    #[arg(long, value_name = "KEY")]
    idempotence_key: Option<String>,
    /// A label to keep with the run
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// End the run this long after its start
    #[arg(long, value_name = "SECS", allow_negative_numbers = true)]
    deadline: Option<i64>,
}

impl RunTask {
    pub async fn execute(self, context: &mut Context) -> anyhow::Result<ExitCode> {
        let launch = self.launch_body();
        if !self.follow {
            let run = launch_task(&context.client, &self.task, &launch).await?;
            context.output.launched(&run)?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.raw {
            context.output.pass_commands();
        }
        // From here on, so that an interrupt during the launch doesn't leave a run behind.
        let interrupt: CancellationToken = shutdown::on_signal().context("cannot listen for signals")?;
        let run = launch_task(&context.client, &self.task, &launch).await?;
        let run = follow::launched(&context.client, run, context.output.as_mut(), &interrupt).await?;
        Ok(follow::exit_code(&run).into())
    }

    fn launch_body(&self) -> LaunchBody {
        let mut env = self.env.clone();
        if let Ok(parent) = env::var(RUN_ID_VARIABLE)
            && !parent.is_empty()
            && !env.iter().any(|var| var.name == PARENT_VARIABLE)
        {
            env.push(EnvVarBody { name: PARENT_VARIABLE.to_owned(), value: Some(parent) });
        }
        let owner = self.owner.as_ref().map(|id| BTreeMap::from([("owner_id".to_owned(), Some(id.clone()))]));
        LaunchBody {
            cluster: self.cluster.clone(),
            env: Some(env).filter(|env| !env.is_empty()),
            run_tags: owner,
            command: self.command.clone(),
            memory: self.memory,
            cpu: self.cpu,
            active_deadline_seconds: self.deadline,
            labels: Some(self.labels.iter().cloned().collect()).filter(|labels: &BTreeMap<_, _>| !labels.is_empty()),
            idempotence_key: self.idempotence_key.clone(),
            description: self.description.clone(),
            ..LaunchBody::default()
        }
    }
}

/// By alias; what is no alias may be an id.
async fn launch_task(client: &Client, task: &str, launch: &LaunchBody) -> Result<Run, ClientError> {
    match client.launch_by_alias(task, launch).await {
        Err(unknown_alias) if unknown_alias.is_not_found() => match client.launch(task, launch).await {
            Err(unknown_id) if unknown_id.is_not_found() => Err(unknown_alias),
            launched => launched,
        },
        launched => launched,
    }
}

fn parse_variable(text: &str) -> Result<EnvVarBody, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => (text, value_from_here(text)?),
    };
    if name.is_empty() {
        return Err("it must begin with a name".to_owned());
    }
    Ok(EnvVarBody { name: name.to_owned(), value: Some(value) })
}

fn value_from_here(name: &str) -> Result<String, String> {
    // The standard library panics at names that no variable can have.
    if name.is_empty() || name.contains('\0') {
        return Err("it must begin with a name".to_owned());
    }
    env::var(name).map_err(|error| match error {
        env::VarError::NotPresent => format!("{name} is not set here; write {name}=VALUE"),
        env::VarError::NotUnicode(_) => format!("the value of {name} here is not UTF-8"),
    })
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_has_a_name_and_a_value_or_is_taken_from_here() {
        let var = |text| parse_variable(text).map(|var| (var.name, var.value.unwrap()));
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(var("A=b"), pair("A", "b"));
        assert_eq!(var("A="), pair("A", ""));
        assert_eq!(var("A=b=c d"), pair("A", "b=c d"));
        assert_eq!(var("CARGO_PKG_NAME"), pair("CARGO_PKG_NAME", "flotilla"));
        assert_eq!(
            var("FLOTILLA_NOT_SET"),
            Err("FLOTILLA_NOT_SET is not set here; write FLOTILLA_NOT_SET=VALUE".into())
        );
        for text in ["", "=", "=b"] {
            assert_eq!(var(text), Err("it must begin with a name".to_owned()), "{text:?}");
        }
    }
}
