//! A property-based client asks everything that the description allows, and some of what it does not.
//!
//! Against the real router and database with the fake engine: what it launches are texts out of the blue, which nobody
//! wants a shell to run.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::tools::{PATIENCE_SECS, Tools, run, source};
use crate::world::{Options, World};

/// How many requests of each kind and operation; `FLOTILLA_TEST_EXAMPLES` asks for more.
const EXAMPLES: &str = "4";
/// Where the choice of requests begins; `FLOTILLA_TEST_SEED` begins elsewhere.
const SEED: &str = "1";

/// The same operations at further paths, which are asked only where more is asked for.
const FURTHER_PATHS: &str = "(V6|Unversioned|OfAnyTask|Live)$|StatusV1$|^executeTask(V2|ByAlias)$";

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_to_a_generated_request_is_described_and_none_is_a_failure_on_sqlite() {
    let Some(tools) = Tools::find() else { return };
    // To make up what lies at each bound of a definition takes minutes.
    let phases = if asks_for_more() { "examples,coverage,fuzzing" } else { "examples,fuzzing" };
    ask_everything(tools, World::on_sqlite(Options::default()).await, phases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_to_a_generated_request_is_described_and_none_is_a_failure_on_postgres() {
    let Some(tools) = Tools::find() else { return };
    let Some(world) = World::on_postgres(Options::default()).await else { return };
    // The bounds of each field don't depend on the database.
    ask_everything(tools, world, "fuzzing").await;
}

fn asks_for_more() -> bool {
    std::env::var_os("FLOTILLA_TEST_EXAMPLES").is_some()
}

/// The phases are Schemathesis's.
async fn ask_everything(tools: Tools, world: World, phases: &str) {
    let definition_id = world.define("known", "echo hello; exit 3").await;
    let ended = world.launch(&definition_id, json!({})).await;
    world.finish(&ended).await;
    let waiting = world.launch(&definition_id, json!({"cluster": "idle"})).await;
    let known = json!({
        "definition_id": [definition_id], "run_id": [ended, waiting], "alias": ["known"], "id": ["default", "idle"],
    });
    let url = world.serve().await;
    let setting = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    let is_usual = !asks_for_more();
    let folder = TempDir::new().unwrap();
    // Whoever asks for more waits for it.
    let mut asking = tools.patient_python("schemathesis", if is_usual { PATIENCE_SECS } else { 100 * PATIENCE_SECS });
    asking
        // It keeps what it found in the folder that it is in.
        .current_dir(folder.path())
        .env("PYTHONPATH", source("properties"))
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("FLOTILLA_KNOWN", known.to_string())
        .args(["run", &format!("{url}/api/openapi.json"), "--url", &url])
        .args(["--max-examples", &setting("FLOTILLA_TEST_EXAMPLES", EXAMPLES)])
        .args(["--seed", &setting("FLOTILLA_TEST_SEED", SEED)])
        // Of its own checks, those that what is ignored by contract (fields and types of a body) would fail are left out.
        .args(["--exclude-checks", "negative_data_rejection,positive_data_acceptance,missing_required_header"])
        .args(["--phases", phases, "--request-timeout", "20", "--continue-on-failure"])
        // How quickly requests are made up says nothing of the API.
        .args(["--suppress-health-check", "all"])
        .args(["--generation-database", "none", "--no-color", "--warnings", "off"]);
    if is_usual {
        asking.args(["--exclude-operation-id-regex", FURTHER_PATHS]);
    }
    let asked = spawn_blocking(move || run(&mut asking));
    let said = tokio::select! {
        said = asked => said.unwrap(),
        () = step_on(&world) => unreachable!("the loops end with the test"),
    };
    eprintln!("{said}");
}

/// The loops of a server, which go on by themselves.
async fn step_on(world: &World) {
    let control = Arc::clone(&world.control);
    loop {
        world.step().await;
        let _ = tokio::time::timeout(Duration::from_millis(50), control.reports.take()).await;
    }
}
