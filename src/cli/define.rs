//! `flotilla define`: a task from a file, created or brought up to date.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use super::output::Defined;
use super::{Context, units};
use crate::client::{Client, ClientError};
use crate::model::limits;
use crate::wire::{DefinitionBody, TaskDefinition};
use crate::words::nearest;

/// What a definition may be at most: a generous command and its variables.
const MAX_BYTES: u64 = 4 << 20;
/// The fields that the server returns beyond those it accepts, so that a returned definition can be sent back.
const ANSWER_ONLY: [&str; 3] = ["definition_id", "created_at", "updated_at"];

const HELP: &str = "\
Examples:
  flotilla define -f hello.toml
  flotilla show hello --json | jq .definition | flotilla define -f -

A file, in TOML (JSON has the same names):
  alias = \"hello\"                # what it is run by; unique
  group_name = \"examples\"        # who it belongs to; can't change later
  image = \"debian:stable-slim\"
  command = \"echo hello, $NAME\"
  memory = 512                   # megabytes; \"2GB\" is the same as 2048
  cpu = 500                      # thousandths of a core; \"0.5 cores\" is the same
  tags = [\"example\"]
  [env]
  NAME = \"world\"

A task of the same alias is updated: what the file leaves out stays as it is.";

/// Define a task from a file, or update it
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Define {
    /// The definition, TOML or JSON; - is standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
}

impl Define {
    pub async fn execute(self, Context { client, output }: &mut Context) -> anyhow::Result<ExitCode> {
        let body = read(&self.file)?;
        let (definition, what) = define(client, &body).await?;
        output.defined(&definition, what)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Creates the definition, or updates the one of the same alias.
pub async fn define(client: &Client, body: &DefinitionBody) -> anyhow::Result<(TaskDefinition, Defined)> {
    let can_be_one = |alias: &&str| !alias.is_empty() && alias.len() <= limits::NAME_BYTES;
    if let Some(alias) = body.alias.as_deref().filter(can_be_one) {
        match client.task_by_alias(alias).await {
            Ok(known) => return Ok((client.update(&known.definition_id, body).await?, Defined::Updated)),
            Err(error) if error.is_not_found() => {}
            // The server says what is wrong with it.
            Err(ClientError::BadName(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((client.define(body).await?, Defined::Created))
}

fn read(file: &Path) -> anyhow::Result<DefinitionBody> {
    let (name, text) = if file == Path::new("-") {
        ("standard input".to_owned(), read_text(std::io::stdin().lock()))
    } else {
        let text = std::fs::File::open(file).map_err(anyhow::Error::from).and_then(read_text);
        (file.display().to_string(), text)
    };
    let text = text.with_context(|| format!("cannot read {name}"))?;
    parse(&text).with_context(|| format!("{name} is not a definition"))
}

fn read_text(source: impl Read) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    source.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        bail!("it holds more than {} MB", MAX_BYTES >> 20);
    }
    String::from_utf8(bytes).map_err(|_| anyhow!("it is not UTF-8 text"))
}

/// A definition in TOML or JSON. `env` may also be a table of names and values, which reads better in TOML.
pub fn parse(text: &str) -> anyhow::Result<DefinitionBody> {
    // No TOML document begins with a brace, and every JSON object does.
    let mut fields: Map<String, Value> = if text.trim_start().starts_with('{') {
        serde_json::from_str(text)?
    } else if serde_json::from_str::<IgnoredAny>(text).is_ok() {
        bail!("it must be an object, such as {{\"alias\": …}}")
    } else {
        let table: toml::Table = toml::from_str(text).map_err(|error| anyhow!("{}", one_line(text, &error)))?;
        table
            .into_iter()
            .map(|(name, value)| Ok((name.clone(), json_of(&name, value)?)))
            .collect::<anyhow::Result<_>>()?
    };
    fields.retain(|name, _| !ANSWER_ONLY.contains(&name.as_str()));
    check_names(&fields)?;
    for name in ["env", "environment"] {
        if let Some(Value::Object(variables)) = fields.get(name) {
            let list = variables.iter().map(|(variable, value)| {
                let value = word(&format!("{name}.{variable}"), value)?;
                Ok(json!({ "name": variable, "value": value }))
            });
            let list = list.collect::<anyhow::Result<Value>>()?;
            fields.insert(name.to_owned(), list);
        }
    }
    read_units(&mut fields)?;
    let bytes = serde_json::to_vec(&fields)?;
    Ok(crate::wire::parse_body(&bytes)?)
}

/// What TOML says and JSON does not: a time is a text, and what is no number is none.
fn json_of(name: &str, value: toml::Value) -> anyhow::Result<Value> {
    Ok(match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => match serde_json::Number::from_f64(number) {
            Some(number) => Value::Number(number),
            None => bail!("`{name}` must be a number, not {number}"),
        },
        toml::Value::Boolean(truth) => truth.into(),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(items) => {
            items.into_iter().map(|item| json_of(name, item)).collect::<anyhow::Result<Vec<_>>>()?.into()
        }
        toml::Value::Table(table) => {
            let fields = table.into_iter().map(|(key, value)| {
                let value = json_of(&format!("{name}.{key}"), value)?;
                Ok((key, value))
            });
            Value::Object(fields.collect::<anyhow::Result<_>>()?)
        }
    })
}

/// An amount may be a text with its unit, where the API takes numbers.
fn read_units(fields: &mut Map<String, Value>) -> anyhow::Result<()> {
    type Read = fn(&str) -> Result<i64, String>;
    let amounts: [(&str, Read); 3] =
        [("memory", units::megabytes), ("ephemeral_storage", units::megabytes), ("cpu", units::millis_of_a_core)];
    for (name, read) in amounts {
        if let Some(Value::String(text)) = fields.get(name) {
            let amount = read(text).map_err(|message| anyhow!("`{name}` {message}"))?;
            fields.insert(name.to_owned(), amount.into());
        }
    }
    Ok(())
}

/// The server ignores unknown fields, which would let a typo pass silently.
fn check_names(fields: &Map<String, Value>) -> anyhow::Result<()> {
    let Value::Object(known) = serde_json::to_value(DefinitionBody::default())? else { return Ok(()) };
    let Some(unknown) = fields.keys().find(|name| !known.contains_key(*name)) else { return Ok(()) };
    let mut known: Vec<&str> = known.keys().map(String::as_str).filter(|name| *name != "environment").collect();
    known.sort_unstable();
    match nearest(unknown, &known) {
        Some(nearest) => bail!("`{unknown}` is no field of it; did you mean `{nearest}`?"),
        None => bail!("`{unknown}` is no field of it; known are {}", known.join(", ")),
    }
}

/// A variable's value as text.
fn word(name: &str, value: &Value) -> anyhow::Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(word) => Ok(word.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => bail!("`{name}` must be a text"),
    }
}

fn one_line(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let place = before.map_or_else(String::new, |before| format!("line {}: ", before.matches('\n').count() + 1));
    format!("{place}{}", error.message().replace('\n', "; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_and_json_say_the_same() {
        let toml = parse("alias = 'a'\nmemory = 5\ntags = ['t']\n[env]\nA = 'b'\nN = 1\n").unwrap();
        let list = r#"{"alias": "a", "memory": 5, "tags": ["t"], "env": [{"name": "A", "value": "b"}, {"name": "N", "value": "1"}]}"#;
        assert_eq!(toml, parse(list).unwrap());
        assert_eq!(toml, parse(r#" {"alias": "a", "memory": 5, "tags": ["t"], "env": {"A": "b", "N": 1}}"#).unwrap());
    }

    #[test]
    fn what_the_server_told_can_be_sent_back() {
        let body = parse(r#"{"definition_id": "g-1", "created_at": "x", "updated_at": "x", "alias": "a"}"#).unwrap();
        assert_eq!(body.alias.as_deref(), Some("a"));
    }

    #[test]
    fn no_value_of_a_wrong_type_is_told_in_words_of_rust() {
        let Value::Object(fields) = serde_json::to_value(DefinitionBody::default()).unwrap() else { panic!() };
        let values = [
            ("'text'", "\"text\""),
            ("5", "5"),
            ("1.5", "1.5"),
            ("true", "true"),
            ("[]", "[]"),
            ("[5]", "[5]"),
            ("[[]]", "[[]]"),
            ("[{}]", "[{}]"),
            ("{}", "{}"),
            ("{name = {}}", "{\"name\": {}}"),
            ("[{name = 5}]", "[{\"name\": 5}]"),
            ("99999999999999999999.0", "99999999999999999999"),
            ("nan", "1e999"),
            ("2026-01-31", "null"),
        ];
        let of_rust =
            ["struct", "Body", "i64", "u64", "f64", "enum", "tuple", "Option", "sequence", "map,", "unit", "toml"];
        let mut refused = 0;
        for field in fields.keys() {
            for (toml, json) in values {
                for text in [format!("{field} = {toml}"), format!("{{\"{field}\": {json}}}")] {
                    let Err(error) = parse(&text) else { continue };
                    let error = format!("{error:#}");
                    assert!(of_rust.iter().all(|word| !error.contains(word)), "{text}: {error}");
                    let is_named = error.contains(field) || error.contains("number out of range");
                    assert!(is_named && !error.contains('\n'), "{text}: {error}");
                    refused += 1;
                }
            }
        }
        assert!(refused > 15 * fields.len(), "{refused}");
    }

    #[test]
    fn a_file_saved_on_windows_is_read_like_another_and_its_variables_keep_their_breaks() {
        let toml = "alias = 'a'\r\ncommand = \"\"\"\r\necho a\r\necho b\r\n\"\"\"\r\n[env]\r\nTEXT = \"x\\r\\ny\"\r\n";
        let body = parse(toml).unwrap();
        assert_eq!(body.env.unwrap()[0].value.as_deref(), Some("x\r\ny"));
        // What is left of them the server takes out.
        assert_eq!(body.command.unwrap().replace("\r\n", "\n"), "echo a\necho b\n");
    }

    #[test]
    fn the_example_is_a_definition() {
        let body = parse(include_str!("../../examples/hello.toml")).unwrap();
        assert_eq!(body.alias.as_deref(), Some("hello"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, message) in [
            ("alias = ", "line 1: "),
            ("alias = 'a'\nmemory = [", "line 2: "),
            ("memroy = 5", "`memroy` is no field of it; did you mean `memory`?"),
            ("colour = 5", "`colour` is no field of it; known are adaptive_resource_allocation, alias, command"),
            (
                "memory = '2 elephants'",
                "`memory` must be a number of megabytes such as 512, or \"512MB\" or \"2GB\", not \"2 elephants\"",
            ),
            ("env = ['A=1']", "`env[0]`: invalid type: string \"A=1\", expected an object"),
            (
                "memory = 'much'",
                "`memory` must be a number of megabytes such as 512, or \"512MB\" or \"2GB\", not \"much\"",
            ),
            ("[env]\nA = []", "`env.A` must be a text"),
            ("{\"alias\": 5}", "`alias`: invalid type: integer `5`, expected a string"),
            ("{", "EOF while parsing"),
            ("[]", "it must be an object, such as {"),
            ("\"hello\"", "it must be an object, such as {"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.starts_with(message) && !error.contains('\n'), "{text:?}: {error}");
        }
    }
}
