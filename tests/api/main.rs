//! The API through the real router, on both databases, with the fake engine and loops stepped by hand; what does not
//! need to tell the engine what to do, on real containers as well.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that fails says where and why")]

#[path = "../support/mod.rs"]
mod support;
mod world;

mod bad_input;
mod clusters;
mod definitions;
mod launches;
mod lists;
mod logs;
mod loops;
mod openapi;
mod runs;
mod server;

/// Makes of each function a test on SQLite and one on PostgreSQL.
macro_rules! on_both_databases {
    ($($(#[$attribute:meta])* async fn $name:ident($world:ident: World) $body:block)+) => {
        $($(#[$attribute])* async fn $name($world: crate::world::World) $body)+

        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::world::World::on_sqlite().await).await;
            })+
        }

        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                if let Some(world) = crate::world::World::on_postgres().await {
                    super::$name(world).await;
                }
            })+
        }
    };
}
pub(crate) use on_both_databases;

/// The same, and a third on a cluster of real containers.
macro_rules! on_docker_too {
    ($($(#[$attribute:meta])* async fn $name:ident($world:ident: World) $body:block)+) => {
        crate::on_both_databases! { $($(#[$attribute])* async fn $name($world: World) $body)+ }

        mod docker {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                if let Some(world) = crate::world::World::on_docker().await {
                    super::$name(world).await;
                }
            })+
        }
    };
}
pub(crate) use on_docker_too;
