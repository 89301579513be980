//! The description is valid, and a Python client that is generated from it is typed and does its work.

use std::fs;

use tempfile::TempDir;

use crate::program::Server;
use crate::tools::{Tools, run, source};

#[test]
fn the_description_is_valid() {
    let Some(tools) = Tools::find() else { return };
    let folder = TempDir::new().unwrap();
    let document = folder.path().join("openapi.json");
    fs::write(&document, flotilla::http::openapi().to_string()).unwrap();
    run(tools.python("openapi-spec-validator").arg("--errors").arg("all").arg(&document));
}

#[test]
fn a_generated_python_client_is_typed_and_walks_a_journey() {
    let Some(tools) = Tools::find() else { return };
    let server = Server::start();
    let folder = TempDir::new().unwrap();
    let package = folder.path().join("flotilla_client");
    run(tools
        .python("openapi-python-client")
        .current_dir(folder.path())
        // A warning says that a part of the description was left out.
        .args(["generate", "--fail-on-warning", "--meta", "none", "--url"])
        .arg(format!("{}/api/openapi.json", server.url))
        .arg("--output-path")
        .arg(&package));
    let journey = folder.path().join("journey.py");
    fs::copy(source("python/journey.py"), &journey).unwrap();
    // But for `client.py`, which is the generator's own and the same for every API.
    run(tools
        .python("mypy")
        .current_dir(folder.path())
        .args(["--strict", "--follow-imports=silent", "--cache-dir=/dev/null"])
        .args(["journey.py", "flotilla_client/api", "flotilla_client/models"]));
    let said = run(tools.python("python").current_dir(folder.path()).arg("journey.py").arg(&server.url));
    assert_eq!(said.lines().last(), Some("arrived"), "{said}");
}
