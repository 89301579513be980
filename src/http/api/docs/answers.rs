//! The responses that any request may get in addition to those its handler declares: from middleware, and when the
//! server fails.

use crate::wire::LOG_COMPLETE;
use serde_json::{Value, json};

use super::each_operation;

pub fn add(document: &mut Value) {
    each_operation(document, |path, method, operation| {
        let is_health = operation["tags"][0] == "health";
        let changes = method != "get";
        let has_body = operation.get("requestBody").is_some();
        let mut answers = vec![
            ("403", "The request came by a name that is not the server's, or from a page of another site"),
            ("500", "The server failed; its log has the cause under the request id in the error"),
        ];
        if path.contains('{') {
            answers.push(("400", "A part of the path can't be read"));
        }
        if !is_health {
            answers.push(("503", "The server has no room now, or its database does not answer; try again later"));
        }
        if changes {
            answers.push(("507", "The server's disk is full; nothing was stored"));
        }
        if has_body {
            answers.push(("408", "The body did not arrive in time"));
            answers.push(("413", "The body is too large"));
        }
        for (status, description) in answers {
            let answer = &mut operation["responses"][status];
            if answer.is_null() {
                *answer = refusal(description);
            } else if status == "403" {
                let own = answer["description"].as_str().unwrap_or_default().to_owned();
                answer["description"] = json!(format!("{own}; or: {description}"));
            }
        }
        describe_headers(operation);
        forget_schema_of_events(operation);
    });
}

/// No single schema describes a stream of events.
fn forget_schema_of_events(operation: &mut Value) {
    if let Some(events) = operation.pointer_mut("/responses/200/content/text~1event-stream") {
        *events = json!({});
    }
}

fn refusal(description: &str) -> Value {
    let schema = json!({"$ref": "#/components/schemas/ErrorBody"});
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}

fn describe_headers(operation: &mut Value) {
    let is_health = operation["tags"][0] == "health";
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    for (status, answer) in operation["responses"].as_object_mut().into_iter().flatten() {
        match status.as_str() {
            "503" if !is_health => {
                answer["headers"] = json!({"Retry-After": {
                    "description": "Seconds to wait", "schema": {"type": "integer", "format": "int64", "minimum": 0}
                }});
            }
            "200" | "304" if id.starts_with("getRunStatus") => {
                answer["headers"] = json!({"ETag": {
                    "description": "The same for the same answer; for `If-None-Match`", "schema": {"type": "string"}
                }});
            }
            "200" if id.starts_with("getLog") => {
                answer["headers"] = json!({LOG_COMPLETE: {
                    "description": "`false` beside a raw log whose end is not stored yet", "schema": {"type": "string"}
                }});
            }
            _ => {}
        }
    }
}
