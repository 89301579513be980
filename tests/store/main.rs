//! The store by itself, on both databases: what every function of it promises, and that each step of the schema keeps
//! the rows of the one before.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that fails says where and why")]

mod contract;
mod migrations;
#[path = "../support/mod.rs"]
mod support;

use flotilla::model::{
    Definition, DefinitionId, LaunchPolicy, LaunchRequest, Run, RunId, Target, TaskSpec, plan_launch,
};
use jiff::Timestamp;

/// Each test on both databases, with an empty store; on PostgreSQL only where there is a server.
#[macro_export]
macro_rules! on_both {
    ($(async fn $name:ident($store:ident: Store) $body:block)+) => {
        $(async fn $name($store: flotilla::store::Store) $body)+

        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                let store = flotilla::store::Store::open_sqlite(&folder.path().join("flotilla.db")).await.unwrap();
                super::$name(store).await;
            })+
        }

        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                let Some(url) = $crate::support::postgres_url().await else { return };
                super::$name(flotilla::store::Store::open_postgres(&url).await.unwrap()).await;
            })+
        }
    };
}

pub fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

pub fn definition(alias: &str, task: TaskSpec) -> Definition {
    Definition {
        definition_id: DefinitionId::from_text(format!("tests-{alias}")),
        alias: Some(alias.to_owned()),
        group_name: "tests".to_owned(),
        task: TaskSpec { image: "busybox:1".to_owned(), command: "true".to_owned(), ..task },
        task_type: "task".to_owned(),
        created_at: now(),
        updated_at: now(),
    }
}

/// A run that waits for this cluster.
pub fn run(definition: &Definition, cluster: &str, request: LaunchRequest) -> Run {
    let target = Target { cluster, resolved_cluster: cluster, engine: "docker" };
    plan_launch(definition, request, &LaunchPolicy::default(), target, RunId::generate(), now()).unwrap()
}
