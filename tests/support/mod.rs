//! What integration tests share: the services that `scripts/test` starts, and how to say that one is missing.
//! `mod support;` at the top of a test file brings it in.
#![allow(dead_code, clippy::print_stderr, reason = "each test file uses a part of it")]

pub mod hostile;

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use flotilla::engine::Origin;
use flotilla::model::DefinitionId;
use sqlx::{ConnectOptions, Connection, PgConnection};

/// The address of a new, empty PostgreSQL database, or `None`, and said so, where there is no server.
/// The database goes with the throw-away server.
pub async fn postgres_url() -> Option<String> {
    let server = service("postgres", "FLOTILLA_TEST_POSTGRES")?;
    let name = format!("flotilla_test_{}", uuid::Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(&server).await.expect("FLOTILLA_TEST_POSTGRES answers");
    let statement = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::raw_sql(statement).execute(&mut connection).await.expect("a database can be made");
    let options: sqlx::postgres::PgConnectOptions = server.parse().expect("FLOTILLA_TEST_POSTGRES is an address");
    connection.close().await.expect("the connection ends in an orderly way");
    Some(options.database(&name).to_url_lossy().to_string())
}

/// The address (`unix://…`) of a Docker Engine that has the image [`DOCKER_IMAGE`], or `None`, and said so.
/// Other tests use it at the same time, so name what you make by something unique.
pub fn docker_address() -> Option<String> {
    service("docker", "FLOTILLA_TEST_DOCKER")
}

/// A busybox with a shell, for tests with [`docker_address`].
pub const DOCKER_IMAGE: &str = "flotilla-test/busybox:1";

/// The path of a kubeconfig whose cluster has the image [`KUBERNETES_IMAGE`], or `None`, and said so.
/// Other tests use the cluster at the same time, so make a namespace of your own, and remove it.
pub fn kubernetes_config() -> Option<PathBuf> {
    service("kubernetes", "FLOTILLA_TEST_KUBERNETES").map(PathBuf::from)
}

/// A busybox and a bash, for tests with [`kubernetes_config`]. Nothing can be pulled there.
pub const KUBERNETES_IMAGE: &str = "flotilla-test/busybox:1";

/// The address (`http://…`) of a chromedriver, or `None`, and said so.
pub fn browser_address() -> Option<String> {
    service("browser", "FLOTILLA_TEST_BROWSER")
}

/// The program of an nginx with the settings of Debian's package, or `None`, and said so.
pub fn nginx_program() -> Option<PathBuf> {
    service("nginx", "FLOTILLA_TEST_NGINX").map(PathBuf::from)
}

/// The text of axe, which judges how accessible a page is; or `None`, and said so.
pub fn axe_script() -> Option<String> {
    let path = service("browser", "FLOTILLA_TEST_AXE")?;
    Some(std::fs::read_to_string(path).expect("FLOTILLA_TEST_AXE is a file"))
}

/// The folder of the generators of API clients and their surroundings, or `None`, and said so.
pub fn clients_folder() -> Option<PathBuf> {
    service("clients", "FLOTILLA_TEST_CLIENTS").map(PathBuf::from)
}

/// What the tests' attempts are launched from.
pub fn origin() -> Origin {
    Origin { definition_id: DefinitionId::from_text("test-1"), alias: Some("test".into()), group_name: "test".into() }
}

/// Says at the end of the whole test run that `what` was not tested. Fails the test where `FLOTILLA_REQUIRE` names it.
pub fn skip(what: &str, why: &str) {
    fail_if_required(what, why);
    eprintln!("not tested here: {what}: {why}");
    if let Some(path) = env::var_os("FLOTILLA_TEST_SKIPS") {
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("FLOTILLA_TEST_SKIPS is a file");
        // One write, so that lines of tests that run side by side don't mix.
        file.write_all(format!("{what}: {why}\n").as_bytes()).expect("FLOTILLA_TEST_SKIPS can be written");
    }
}

fn service(name: &str, variable: &str) -> Option<String> {
    let address = env::var(variable).ok().filter(|address| !address.is_empty());
    if address.is_none() {
        let why = format!("{variable} is not set; scripts/test sets it");
        // Under scripts/test, which could not start the service, the reason is known and told already.
        if env::var_os("FLOTILLA_TEST_SKIPS").is_some() { fail_if_required(name, &why) } else { skip(name, &why) }
    }
    address
}

fn fail_if_required(what: &str, why: &str) {
    let required = env::var("FLOTILLA_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == what), "{what} is required by FLOTILLA_REQUIRE, but {why}");
}
