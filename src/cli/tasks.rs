//! `flotilla tasks`: what is defined.

use std::process::ExitCode;

use super::Context;
use crate::client::DefinitionFilter;

const HELP: &str = "\
Examples:
  flotilla tasks
  flotilla tasks --group science --tag nightly
  flotilla tasks --json | jq -r '.definitions[].alias'";

/// List the tasks that are defined
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Tasks {
    /// Only tasks whose alias contains this
    #[arg(long, value_name = "TEXT")]
    alias: Option<String>,
    /// Only tasks of this group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Only tasks with this tag
    #[arg(long)]
    tag: Option<String>,
    /// How many at most
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 100, allow_negative_numbers = true)]
    limit: u32,
}

impl Tasks {
    pub async fn execute(self, context: &mut Context) -> anyhow::Result<ExitCode> {
        let filter =
            DefinitionFilter { alias: self.alias, group_name: self.group, tag: self.tag, limit: Some(self.limit) };
        let list = context.client.tasks(&filter).await?;
        let now = context.now();
        context.output.definitions(&list, now)?;
        Ok(ExitCode::SUCCESS)
    }
}
