//! The constraints on requests: the words, bounds and patterns that validate them, taken from the validating code.

use serde_json::{Map, Value, json};

use super::each_operation;
use crate::http::params::{ENV_PATTERN, MOST_CHARS, MOST_VALUES};
use crate::model::{
    ClusterStatus, DefinitionSort, EventType, NodeLifecycle, Order, Outcome, RunSort, Status, limits, pattern,
};
use crate::service::LogToken;

pub fn add(document: &mut Value) {
    forget_null(document);
    widen_integers(document);
    let schemas = document["components"]["schemas"].as_object_mut().expect("there are bodies");
    for (name, words) in vocabularies() {
        schemas.insert(name.to_owned(), json!({"type": "string", "enum": words}));
    }
    for (schema, fields) in fields() {
        for (field, accepted) in fields {
            let property = &mut schemas.get_mut(schema).expect("the schema exists")["properties"][field];
            assert!(property.is_object(), "{schema} has no field {field}");
            narrow(property, accepted);
        }
    }
    require(schemas, "EnvVar", &["name", "value"]);
    require(schemas, "StatusUpdate", &["status"]);
    for (creation, update, needed) in [
        ("DefinitionRequest", "DefinitionUpdate", &["image", "command", "group_name"][..]),
        ("ClusterRequest", "ClusterUpdate", &["name"]),
    ] {
        schemas.insert(creation.to_owned(), schemas[update].clone());
        require(schemas, creation, needed);
    }
    parameters(document);
    bodies(document);
}

/// Every enumeration, with its schema name.
fn vocabularies() -> [(&'static str, Vec<&'static str>); 8] {
    let mut run_sort = RunSort::ALL.map(RunSort::as_str).to_vec();
    run_sort.push(RunSort::CLUSTER_IN_STATUS);
    [
        ("Status", Status::ALL.map(Status::as_str).to_vec()),
        ("Outcome", Outcome::ALL.map(Outcome::as_str).to_vec()),
        ("ClusterStatus", ClusterStatus::ALL.map(ClusterStatus::as_str).to_vec()),
        ("NodeLifecycle", NodeLifecycle::ALL.map(NodeLifecycle::as_str).to_vec()),
        ("EventType", EventType::ALL.map(EventType::as_str).to_vec()),
        ("Order", Order::ALL.map(Order::as_str).to_vec()),
        ("DefinitionSort", DefinitionSort::ALL.map(DefinitionSort::as_str).to_vec()),
        ("RunSort", run_sort),
    ]
}

/// The constraints on each schema's fields.
fn fields() -> Vec<(&'static str, Vec<(&'static str, Value)>)> {
    let memory = || json!({"minimum": 0, "maximum": limits::MEGABYTES});
    let amounts = || {
        [
            ("memory", memory()),
            ("cpu", json!({"minimum": 0, "maximum": limits::CPU_MILLIS})),
            ("gpu", json!({"minimum": 0, "maximum": limits::GPUS})),
            ("ephemeral_storage", memory()),
        ]
    };
    let command = |pattern| text(pattern, limits::COMMAND_BYTES);
    let variables = || json!({"maxItems": limits::ENV_ITEMS});
    let definition = [
        ("env", variables()),
        ("environment", variables()),
        ("alias", text(pattern::LINE, limits::NAME_BYTES)),
        ("group_name", text(pattern::GROUP, limits::NAME_BYTES)),
        ("image", image()),
        ("command", command(pattern::TEXT_WITH_CONTENT)),
        ("tags", list(&text(pattern::NAME, limits::NAME_BYTES))),
        ("ports", list(&json!({"minimum": 1, "maximum": 65_535}))),
        ("user", line()),
        ("task_type", line()),
    ];
    let launch = [
        ("env", variables()),
        ("image", image()),
        ("command", command(pattern::TEXT)),
        ("run_tags", map_of_lines()),
        ("labels", map_of_lines()),
        ("node_lifecycle", word("NodeLifecycle")),
        ("active_deadline_seconds", json!({"minimum": 1, "maximum": limits::DEADLINE_SECS})),
        ("idempotence_key", line()),
        ("description", text(pattern::TEXT, limits::TEXT_BYTES)),
        ("arch", line()),
        ("tier", line()),
        ("service_account", line()),
    ];
    let names = || list(&text(pattern::NAME, limits::NAME_BYTES));
    let value = text(pattern::TEXT, limits::ARGUMENT_BYTES - limits::NAME_BYTES - 1);
    vec![
        ("EnvVar", vec![("name", text(pattern::VARIABLE, limits::NAME_BYTES)), ("value", value)]),
        ("DefinitionUpdate", definition.into_iter().chain(amounts()).collect()),
        ("LaunchRequest", launch.into_iter().chain(amounts()).collect()),
        (
            "StatusUpdate",
            vec![
                ("status", word("Status")),
                ("exit_reason", text(pattern::TEXT, limits::TEXT_BYTES)),
                // Other values are also accepted.
                ("run_exceptions", json!({"type": "array", "items": {"type": "string", "pattern": pattern::TEXT}})),
            ],
        ),
        (
            "ClusterUpdate",
            vec![
                ("status", word("ClusterStatus")),
                ("status_reason", text(pattern::TEXT, limits::TEXT_BYTES)),
                ("allowed_tiers", names()),
                ("capabilities", names()),
                ("region", line()),
                ("namespace", line()),
                ("cluster_version", line()),
            ],
        ),
        (
            "Run",
            vec![("status", word("Status")), ("outcome", word("Outcome")), ("node_lifecycle", word("NodeLifecycle"))],
        ),
        ("RunStatus", vec![("status", word("Status"))]),
        ("Cluster", vec![("status", word("ClusterStatus"))]),
        ("PodEvent", vec![("event_type", word("EventType"))]),
        ("DefinitionList", vec![("sort_by", word("DefinitionSort")), ("order", word("Order"))]),
        ("RunList", vec![("sort_by", word("RunSort")), ("order", word("Order"))]),
    ]
}

/// The constraints on a query or path parameter of this name.
fn parameter(path: &str, name: &str) -> Option<Value> {
    let accepted = match name {
        "limit" => json!({"minimum": 0}),
        "offset" => json!({"minimum": 0, "maximum": u32::MAX}),
        "sort_by" if path.ends_with("/history") => word("RunSort"),
        "sort_by" => word("DefinitionSort"),
        "order" => word("Order"),
        "status" => json!({"maxItems": MOST_VALUES, "items": word("Status")}),
        "outcome" => json!({"maxItems": MOST_VALUES, "items": word("Outcome")}),
        "env" => json!({"maxItems": MOST_VALUES, "items": {"pattern": ENV_PATTERN, "maxLength": MOST_CHARS}}),
        "name" | "role" | "facility" => json!({"pattern": pattern::TEXT, "maxLength": MOST_CHARS}),
        "last_seen" => json!({"pattern": LogToken::PATTERN, "maxLength": MOST_CHARS}),
        "raw_text" | "If-None-Match" => return None,
        time if time.ends_with("_since") || time.ends_with("_until") => json!({"format": "date-time"}),
        _ if path.contains(&format!("{{{name}}}")) => json!({"minLength": 1, "pattern": pattern::TEXT}),
        _ => json!({"maxItems": MOST_VALUES, "items": {"pattern": pattern::TEXT, "maxLength": MOST_CHARS}}),
    };
    Some(accepted)
}

fn parameters(document: &mut Value) {
    each_operation(document, |path, _, operation| {
        for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap_or_default().to_owned();
            if let Some(accepted) = self::parameter(path, &name) {
                narrow(&mut parameter["schema"], accepted);
            }
        }
    });
}

/// Creations require more fields than changes; a launch needs no body.
fn bodies(document: &mut Value) {
    each_operation(document, |path, method, operation| {
        let Some(body) = operation.get_mut("requestBody") else { return };
        let schema = &mut body["content"]["application/json"]["schema"];
        match (method, path.rsplit('/').next()) {
            ("post", Some("task")) => *schema = word("DefinitionRequest"),
            ("post", Some("clusters")) => *schema = word("ClusterRequest"),
            (_, Some("execute")) => body["required"] = json!(false),
            _ => {}
        }
    });
}

/// Integers are parsed as 64 bits; declaring 32 would prevent clients from sending accepted values.
fn widen_integers(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if object.get("format") == Some(&json!("int32")) {
                object.insert("format".to_owned(), json!("int64"));
            }
            object.values_mut().for_each(widen_integers);
        }
        Value::Array(items) => items.iter_mut().for_each(widen_integers),
        _ => {}
    }
}

/// Responses omit a field without a value, and requests may. The description states once that requests may also
/// contain `null`; per field, it would give each field of a generated client a third state.
fn forget_null(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.values_mut().for_each(forget_null);
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(forget_null),
        _ => {}
    }
}

/// Adds constraints to a schema. A reference to an enumeration replaces the type.
fn narrow(schema: &mut Value, accepted: Value) {
    let Value::Object(accepted) = accepted else { return };
    let object = schema.as_object_mut().expect("a schema is an object");
    if let Some(reference) = accepted.get("$ref") {
        object.remove("type");
        object.insert("$ref".to_owned(), reference.clone());
        return;
    }
    for (key, value) in accepted {
        match object.get_mut(&key) {
            Some(inner) if inner.is_object() => narrow(inner, value),
            _ => drop(object.insert(key, value)),
        }
    }
}

/// Declares these fields as required.
fn require(schemas: &mut Map<String, Value>, name: &str, needed: &[&str]) {
    schemas[name]["required"] = json!(needed);
}

fn word(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn text(pattern: &str, most: usize) -> Value {
    json!({"pattern": pattern, "maxLength": most})
}

fn line() -> Value {
    text(pattern::LINE, limits::NAME_BYTES)
}

fn image() -> Value {
    text(&pattern::image(), limits::IMAGE_BYTES)
}

fn list(items: &Value) -> Value {
    json!({"maxItems": limits::LIST_ITEMS, "items": items})
}

fn map_of_lines() -> Value {
    json!({"maxProperties": limits::LIST_ITEMS, "propertyNames": line(), "additionalProperties": line()})
}
