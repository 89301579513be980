//! Merging our pod template over the operator's: our values take precedence, anything we don't set is the operator's.

use std::io;
use std::path::Path;

use serde_json::{Map, Value};

#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("the pod template {path} can't be read")]
    File { path: String, source: io::Error },
    #[error("the pod template {path} is neither YAML nor JSON: {reason}")]
    Text { path: String, reason: String },
    #[error("the pod template {path} must be an object with `metadata` and `spec`, or that of a pod: {reason}")]
    Shape { path: String, reason: String },
}

/// The top-level fields of a pod template or a pod; all but two of them are irrelevant.
const TOP_FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// Reads an operator's pod template: a `PodTemplateSpec`, or a `Pod` or `PodTemplate`, in YAML or JSON.
pub fn read_template(path: &Path) -> Result<Value, TemplateError> {
    let shown = || path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| TemplateError::File { path: shown(), source })?;
    // JSON is YAML.
    let value: Value = serde_saphyr::from_str(&text)
        .map_err(|error| TemplateError::Text { path: shown(), reason: error.to_string() })?;
    let value = value.get("template").cloned().unwrap_or(value);
    let shape = |reason: String| TemplateError::Shape { path: shown(), reason };
    let Value::Object(object) = value else { return Err(shape("it is no object".to_owned())) };
    if let Some(unknown) = object.keys().find(|key| !TOP_FIELDS.contains(&key.as_str())) {
        return Err(shape(format!("it has a field `{unknown}`, which a pod template does not have")));
    }
    let parts = object.into_iter().filter(|(key, _)| key == "metadata" || key == "spec");
    let value = Value::Object(parts.collect::<Map<_, _>>());
    // Detected now, rather than by the first run.
    serde_json::from_value::<k8s_openapi::api::core::v1::PodTemplateSpec>(with_names(value.clone()))
        .map_err(|error| shape(error.to_string()))?;
    Ok(value)
}

/// The template's fields that this program's types don't know: newer or misspelt ones. Only the cluster can
/// distinguish these.
pub(super) fn unknown_fields(template: &Value) -> Vec<String> {
    let named = with_names(template.clone());
    let typed = serde_json::from_value::<k8s_openapi::api::core::v1::PodTemplateSpec>(named.clone());
    // A template that can't be read at all was refused when it was read.
    let typed = typed.ok().and_then(|typed| serde_json::to_value(typed).ok()).unwrap_or_default();
    paths(missing_in(&typed, &named))
}

/// The template's fields missing from the cluster's answer, each by its path. The API itself drops empty values of
/// fields it knows.
pub(super) fn fields_left_out(answer: &Value, template: &Value) -> Vec<String> {
    let unknown = unknown_fields(template);
    let missing = missing_in(answer, &with_names(template.clone()));
    paths(missing.into_iter().filter(|(path, value)| !is_empty(value) || unknown.contains(path)))
}

fn paths(missing: impl IntoIterator<Item = (String, Value)>) -> Vec<String> {
    missing.into_iter().map(|(path, _)| path).collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

fn missing_in(answer: &Value, template: &Value) -> Vec<(String, Value)> {
    let mut missing = Vec::new();
    collect_missing("", "", template, Some(answer), &mut missing);
    missing
}

fn collect_missing(
    path: &str,
    name: &str,
    template: &Value,
    answer: Option<&Value>,
    missing: &mut Vec<(String, Value)>,
) {
    match (template, answer) {
        (Value::Null, _) => {}
        (_, None | Some(Value::Null)) => missing.push((path.to_owned(), template.clone())),
        (Value::Object(fields), Some(answer)) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect_missing(&path, key, value, answer.get(key), missing);
            }
        }
        (Value::Array(elements), Some(answer)) => {
            for (i, element) in elements.iter().enumerate() {
                let id = key_of(name).and_then(|key| Some((key, element.get(key)?)));
                let (label, same) = match id {
                    Some((key, id)) => {
                        let found = answer.as_array().into_iter().flatten().find(|other| other.get(key) == Some(id));
                        (id.as_str().map_or_else(|| id.to_string(), str::to_owned), found)
                    }
                    None => (i.to_string(), answer.get(i)),
                };
                collect_missing(&format!("{path}[{label}]"), "", element, same, missing);
            }
        }
        _ => {}
    }
}

/// A container without an image or a name of its own stands for ours, which has both.
fn with_names(mut template: Value) -> Value {
    let containers = template.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
        container.entry("name").or_insert_with(|| Value::String(super::names::CONTAINER.to_owned()));
    }
    if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) {
        spec.entry("containers").or_insert_with(|| Value::Array(Vec::new()));
    }
    template
}

/// The key that identifies a list's elements, so that one of ours and one of the operator's are merged.
fn key_of(list: &str) -> Option<&'static str> {
    match list {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" => Some("name"),
        "volumeMounts" => Some("mountPath"),
        "ports" => Some("containerPort"),
        _ => None,
    }
}

/// Merges ours over the operator's: objects are merged, lists of named elements by their names, tolerations and
/// finalizers are concatenated; any other value of ours replaces the operator's.
pub(super) fn merge(operators: Value, ours: Value) -> Value {
    merge_at("", with_names(operators), ours)
}

fn merge_at(name: &str, base: Value, over: Value) -> Value {
    match (base, over) {
        (Value::Object(mut base), Value::Object(over)) => {
            for (key, value) in over {
                let merged = match base.remove(&key) {
                    Some(old) => merge_at(&key, old, value),
                    None => value,
                };
                base.insert(key, merged);
            }
            Value::Object(base)
        }
        (Value::Array(base), Value::Array(over)) => match key_of(name) {
            Some(key) => Value::Array(merge_lists(key, base, over)),
            None if matches!(name, "tolerations" | "finalizers") => {
                Value::Array(base.into_iter().chain(over).collect())
            }
            None => Value::Array(over),
        },
        (_, over) => over,
    }
}

/// Ours first, because the first container is the default where none is named.
fn merge_lists(key: &str, mut base: Vec<Value>, over: Vec<Value>) -> Vec<Value> {
    let mut merged: Vec<Value> = over
        .into_iter()
        .map(|ours| {
            let same = ours.get(key).and_then(|id| base.iter().position(|theirs| theirs.get(key) == Some(id)));
            match same {
                Some(position) => merge_at("", base.remove(position), ours),
                None => ours,
            }
        })
        .collect();
    merged.append(&mut base);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ours_is_laid_over_the_operators() {
        let operators = json!({
            "metadata": { "labels": { "team": "tides", "flotilla/run": "forged" } },
            "spec": {
                "dnsPolicy": "None",
                "restartPolicy": "Always",
                "tolerations": [{ "key": "a" }],
                "containers": [
                    { "env": [{ "name": "HTTP_PROXY", "value": "p" }, { "name": "X", "value": "theirs" }] },
                    { "name": "sidecar", "image": "s" },
                ],
                "volumes": [{ "name": "cache", "emptyDir": {} }],
            },
        });
        let ours = json!({
            "metadata": { "labels": { "flotilla/run": "r" } },
            "spec": {
                "restartPolicy": "Never",
                "tolerations": [{ "key": "b" }],
                "containers": [{ "name": "run", "image": "i", "env": [{ "name": "X", "value": "ours" }] }],
            },
        });
        let expected = json!({
            "metadata": { "labels": { "team": "tides", "flotilla/run": "r" } },
            "spec": {
                "dnsPolicy": "None",
                "restartPolicy": "Never",
                "tolerations": [{ "key": "a" }, { "key": "b" }],
                "containers": [
                    { "name": "run", "image": "i",
                      "env": [{ "name": "X", "value": "ours" }, { "name": "HTTP_PROXY", "value": "p" }] },
                    { "name": "sidecar", "image": "s" },
                ],
                "volumes": [{ "name": "cache", "emptyDir": {} }],
            },
        });
        assert_eq!(merge(operators, ours), expected);
    }

    #[test]
    fn a_template_is_read_from_yaml_and_from_json_and_a_bad_one_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pod.yaml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_template(&path)
        };
        let expected = json!({ "spec": { "dnsPolicy": "Default" } });
        assert_eq!(read("apiVersion: v1\nkind: Pod\nspec:\n  dnsPolicy: Default\n").unwrap(), expected);
        assert_eq!(read(r#"{"template": {"spec": {"dnsPolicy": "Default"}}}"#).unwrap(), expected);
        for text in ["- a", "spec: [1]", "spec: {", "spec: {tolerations: 3}", "specs: {dnsPolicy: Default}"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(matches!(read_template(Path::new("/nonexistent")), Err(TemplateError::File { .. })));
    }

    #[test]
    fn fields_that_are_not_known_are_found_by_their_paths() {
        let template = json!({
            "metadata": { "labels": { "team": "tides" }, "labelz": {} },
            "spec": {
                "priorityClassname": "high",
                "dnsPolicy": "Default",
                "terminationGracePeriodSeconds": null,
                "containers": [{ "name": "proxy", "image": "p", "imagepullPolicy": "Always" }, { "env": [{ "name": "A", "vale": "b" }] }],
                "volumes": [{ "name": "v", "emptyDir": {} }],
                "tolerations": [{ "key": "a", "operater": "Exists" }],
            },
        });
        let expected = [
            "metadata.labelz",
            "spec.containers[proxy].imagepullPolicy",
            "spec.containers[run].env[A].vale",
            "spec.priorityClassname",
            "spec.tolerations[0].operater",
        ];
        let mut found = unknown_fields(&template);
        found.sort_unstable();
        assert_eq!(found, expected);
        // A cluster that knows one of them includes it in its answer, whatever else it adds and however it orders
        // fields.
        let mut answer = template.clone();
        answer["spec"]["nodeName"] = json!("n");
        answer["spec"]["containers"].as_array_mut().unwrap().reverse();
        answer["spec"]["containers"][0]["name"] = json!("run");
        answer["spec"].as_object_mut().unwrap().remove("priorityClassname");
        assert_eq!(fields_left_out(&answer, &template), ["spec.priorityClassname"]);
        // Also reports a field that this program knows and the cluster does not, but not one whose value equals its
        // absence.
        let template =
            json!({ "spec": { "schedulingGates": [{ "name": "g" }], "hostNetwork": false, "dnsPolicy": "Default" } });
        assert_eq!(unknown_fields(&template), [""; 0]);
        assert_eq!(
            fields_left_out(&json!({ "spec": { "dnsPolicy": "Default" } }), &template),
            ["spec.schedulingGates"]
        );
    }
}
