//! A TypeScript client that is generated from the description is typed and does its work.

use std::fs;

use tempfile::TempDir;

use crate::program::Server;
use crate::tools::{Tools, bounded, run, source};

#[test]
fn a_generated_typescript_client_is_typed_and_walks_a_journey() {
    let Some(tools) = Tools::find() else { return };
    let server = Server::start();
    let folder = TempDir::new().unwrap();
    std::os::unix::fs::symlink(tools.node_modules(), folder.path().join("node_modules")).unwrap();
    for file in ["journey.ts", "tsconfig.json", "package.json"] {
        fs::copy(source("typescript").join(file), folder.path().join(file)).unwrap();
    }
    let schema = folder.path().join("schema.d.ts");
    run(tools.node("openapi-typescript").arg(format!("{}/api/openapi.json", server.url)).arg("--output").arg(&schema));
    run(tools.node("tsc").current_dir(folder.path()).args(["--project", "."]));
    let said = run(bounded("node").current_dir(folder.path()).arg("built/journey.js").arg(&server.url));
    assert_eq!(said.lines().last(), Some("arrived"), "{said}");
}
