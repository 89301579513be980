//! Parses a request's bytes into a struct, with errors that name the field and the value.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{ClusterBody, DefinitionBody, LaunchBody, StatusUpdate};

/// What is wrong with a body, in words for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BodyError(String);

/// A structure that a request carries as its body.
pub trait FromBody: Sized {
    fn from_body(bytes: &[u8]) -> Result<Self, BodyError>;
}

impl FromBody for DefinitionBody {
    fn from_body(bytes: &[u8]) -> Result<Self, BodyError> {
        parse_body(bytes)
    }
}

impl FromBody for ClusterBody {
    fn from_body(bytes: &[u8]) -> Result<Self, BodyError> {
        parse_body(bytes)
    }
}

impl FromBody for StatusUpdate {
    fn from_body(bytes: &[u8]) -> Result<Self, BodyError> {
        parse_body(bytes)
    }
}

impl FromBody for LaunchBody {
    fn from_body(bytes: &[u8]) -> Result<Self, BodyError> {
        parse_launch_body(bytes)
    }
}

/// Reads a JSON object, whatever the request says its type is. An empty body is an object without fields.
pub fn parse_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BodyError> {
    from_object(parse_object(bytes)?)
}

/// The same for a launch, whose keys match without regard to case: existing clients write `run_tags.OWNER_ID` as well
/// as `owner_id`. The names inside `labels` are the user's own and stay as they are.
fn parse_launch_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BodyError> {
    from_object(with_lower_keys(parse_object(bytes)?))
}

fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, BodyError> {
    if bytes.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(BodyError(format!("the body must be a JSON object, not {}", kind(&other)))),
        Err(error) => Err(BodyError(format!("the body is not JSON: {error}"))),
    }
}

fn from_object<T: DeserializeOwned>(object: Map<String, Value>) -> Result<T, BodyError> {
    check_objects(&object)?;
    let value = with_whole_numbers(Value::Object(object));
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let mut problem = in_words_of_json(&error.inner().to_string());
        if let Some(unit) = unit_of(&path)
            && problem.ends_with("expected an integer")
        {
            problem.push_str(&format!(" ({unit})"));
        }
        BodyError(if path == "." { problem } else { format!("`{path}`: {problem}") })
    })
}

/// What a number in this field counts.
fn unit_of(field: &str) -> Option<&'static str> {
    match field {
        "memory" | "ephemeral_storage" => Some("megabytes"),
        "cpu" => Some("thousandths of a core"),
        "active_deadline_seconds" => Some("seconds"),
        _ => None,
    }
}

/// Refuses arrays in place of objects: serde would take their items for the fields in their order.
fn check_objects(object: &Map<String, Value>) -> Result<(), BodyError> {
    let Some(Value::Array(variables)) = object.get("env") else { return Ok(()) };
    match variables.iter().position(Value::is_array) {
        Some(index) => Err(BodyError(format!("`env[{index}]`: invalid type: array, expected an object"))),
        None => Ok(()),
    }
}

/// In JSON, 5.0 and 5 are the same number, and languages with a single number type may write either.
fn with_whole_numbers(value: Value) -> Value {
    /// Up to this value, every integer is exact as a floating-point number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            #[expect(clippy::cast_possible_truncation, reason = "it is whole, and small enough")]
            Some(float) if float.fract() == 0.0 && float.abs() <= EXACT => Value::from(float as i64),
            _ => Value::Number(number),
        },
        Value::Array(items) => Value::Array(items.into_iter().map(with_whole_numbers).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, value)| (name, with_whole_numbers(value))).collect())
        }
        other @ (Value::Null | Value::Bool(_) | Value::String(_)) => other,
    }
}

/// serde names Rust's types and its own; a client knows JSON's.
fn in_words_of_json(problem: &str) -> String {
    // The value found comes second to last, before what was expected, and may contain any text.
    let (found, expected) = problem.rsplit_once(", expected ").unwrap_or((problem, ""));
    let found = match found {
        "invalid type: map" => "invalid type: object",
        "invalid type: sequence" => "invalid type: array",
        found => found,
    };
    let known = match expected.split(' ').next().unwrap_or_default() {
        "struct" | "tuple" => "an object",
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" if found.starts_with("invalid value") => {
            "an integer of 64 bits"
        }
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" => "an integer",
        "f32" | "f64" => "a number",
        "a" if expected == "a sequence" => "an array",
        "a" if expected == "a map" => "an object",
        "" => return found.to_owned(),
        _ => expected,
    };
    format!("{found}, expected {known}")
}

fn with_lower_keys(object: Map<String, Value>) -> Map<String, Value> {
    let lowered = |(key, value): (String, Value)| {
        let key = key.to_lowercase();
        let value = match (key.as_str(), value) {
            ("labels", value) => value,
            (_, Value::Object(inner)) => Value::Object(with_lower_keys(inner)),
            (_, Value::Array(items)) => Value::Array(items.into_iter().map(lower_item).collect()),
            (_, value) => value,
        };
        (key, value)
    };
    object.into_iter().map(lowered).collect()
}

fn lower_item(item: Value) -> Value {
    match item {
        Value::Object(inner) => Value::Object(with_lower_keys(inner)),
        other => other,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_field_and_the_value() {
        let error = |text: &str| parse_body::<DefinitionBody>(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            error(r#"{"memory": "much"}"#),
            "`memory`: invalid type: string \"much\", expected an integer (megabytes)"
        );
        assert_eq!(
            error(r#"{"env": [{"name": "A"}, {"name": 5}]}"#),
            "`env[1].name`: invalid type: integer `5`, expected a string"
        );
        for (text, expected) in [
            (r#"{"tags": {}}"#, "`tags`: invalid type: object, expected an array"),
            (r#"{"alias": []}"#, "`alias`: invalid type: array, expected a string"),
            (r#"{"env": [[]]}"#, "`env[0]`: invalid type: array, expected an object"),
            (r#"{"env": [{"name": "A"}, ["B", "1"]]}"#, "`env[1]`: invalid type: array, expected an object"),
            (
                r#"{"cpu": 0.5}"#,
                "`cpu`: invalid type: floating point `0.5`, expected an integer (thousandths of a core)",
            ),
            (r#"{"alias": {"x": 1}}"#, "`alias`: invalid type: object, expected a string"),
            (r#"{"privileged": 1}"#, "`privileged`: invalid type: integer `1`, expected a boolean"),
            (
                r#"{"memory": 9223372036854775808}"#,
                "`memory`: invalid value: integer `9223372036854775808`, expected an integer of 64 bits",
            ),
            (
                r#"{"memory": "x, expected struct"}"#,
                "`memory`: invalid type: string \"x, expected struct\", expected an integer (megabytes)",
            ),
        ] {
            assert_eq!(error(text), expected);
        }
        assert_eq!(error("[]"), "the body must be a JSON object, not an array");
        assert!(
            error("{").starts_with("the body is not JSON: EOF while parsing an object at line 1"),
            "{}",
            error("{")
        );
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_fraction_of_nothing() {
        let body: DefinitionBody = parse_body(br#"{"memory": 512.0, "ports": [8e1], "cpu": -0.0}"#).unwrap();
        assert_eq!((body.memory, body.ports, body.cpu), (Some(512), Some(vec![80]), Some(0)));
        for text in [r#"{"memory": 1.5}"#, r#"{"memory": 1e300}"#] {
            assert!(parse_body::<DefinitionBody>(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_launch_that_is_wrong_is_told_the_unit_and_takes_no_array_for_an_object() {
        let error = |text: &str| parse_launch_body::<LaunchBody>(text.as_bytes()).unwrap_err().to_string();
        let hour = error(r#"{"active_deadline_seconds": "1h"}"#);
        assert_eq!(hour, "`active_deadline_seconds`: invalid type: string \"1h\", expected an integer (seconds)");
        assert_eq!(error(r#"{"run_tags": ["ada"]}"#), "`run_tags`: invalid type: array, expected an object");
        assert_eq!(error(r#"{"env": [["A", "1"]]}"#), "`env[0]`: invalid type: array, expected an object");
    }

    #[test]
    fn an_empty_body_is_an_empty_object() {
        assert!(parse_launch_body::<LaunchBody>(b" \n").is_ok());
    }

    #[test]
    fn keys_of_a_launch_match_in_any_case_but_labels_are_the_users_own() {
        let text =
            br#"{"Run_Tags": {"OWNER_ID": "ada"}, "ENV": [{"Name": "A", "VALUE": "b"}], "labels": {"Team": "X"}}"#;
        let body: LaunchBody = parse_launch_body(text).unwrap();
        let request = body.into_v4();
        assert_eq!(request.owner.run_tags["owner_id"], "ada");
        assert_eq!((request.env[0].name.as_str(), request.env[0].value.as_str()), ("A", "b"));
        assert_eq!(request.labels["Team"], "X");
    }
}
