//! Laying our pod template over the operator's: what we say holds, what we don't say is the operator's.

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
    let parts = object.into_iter().filter(|(key, _)| key == "metadata" || key == "spec");
    let value = Value::Object(parts.collect::<Map<_, _>>());
    // Found out now, and not by the first run.
    serde_json::from_value::<k8s_openapi::api::core::v1::PodTemplateSpec>(with_names(value.clone()))
        .map_err(|error| shape(error.to_string()))?;
    Ok(value)
}

/// A container without an image or a name of its own is meant for ours, which has both.
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

/// By what the elements of a list are told apart, so that one of ours and one of the operator's become one.
fn key_of(list: &str) -> Option<&'static str> {
    match list {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" => Some("name"),
        "volumeMounts" => Some("mountPath"),
        "ports" => Some("containerPort"),
        _ => None,
    }
}

/// Ours over the operator's: objects are merged, lists of named things by their names, tolerations and finalizers are put
/// together; anything else of ours stands in place of the operator's.
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

/// Ours first, for the first container is the one that is meant where none is named.
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
        for text in ["- a", "spec: [1]", "spec: {", "spec: {tolerations: 3}"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(matches!(read_template(Path::new("/nonexistent")), Err(TemplateError::File { .. })));
    }
}
