//! The API through the real router, with loops stepped by hand: on both databases with the fake engine, and on each real
//! engine.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that fails says where and why")]

#[path = "../support/mod.rs"]
mod support;
mod world;

mod bad_input;
mod bounds;
mod clients;
mod clock;
mod clusters;
mod definitions;
mod engines;
mod fields;
mod hostile;
mod launches;
mod lists;
mod log_ends;
mod logs;
mod loops;
mod openapi;
mod runs;
mod server;
mod starts;
mod stops;
mod texts;

/// Makes of each function a test with the fake engine on SQLite and one on PostgreSQL. `World = OPTIONS` is a world whose
/// operator decided something.
///
/// Here belongs only what has to be scripted: an engine that is away or refuses by chance, an answer that is lost, more
/// than one server's loops in this process, and hours that pass. Real engines have tests of their own for what of this
/// they can be made to do (`tests/docker`, `tests/crash`).
macro_rules! on_fake_engine {
    ($($(#[$attribute:meta])* async fn $name:ident($world:ident: World $(= $options:expr)?) $body:block)+) => {
        $($(#[$attribute])* async fn $name($world: crate::world::World) $body)+

        mod sqlite {
            #[allow(unused_imports, reason = "the options of a world need what is beside it")]
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                let options = [$($options)?].into_iter().next().unwrap_or_default();
                super::$name(crate::world::World::on_sqlite(options).await).await;
            })+
        }

        crate::on_engine! { postgres, on_postgres, $($name $(= $options)?),+ }
    };
}
pub(crate) use on_fake_engine;

/// The same, and one on each real engine. What a shell can say runs everywhere: see [`world::WAIT`] for what waits.
macro_rules! on_every_engine {
    ($($(#[$attribute:meta])* async fn $name:ident($world:ident: World $(= $options:expr)?) $body:block)+) => {
        crate::on_fake_engine! { $($(#[$attribute])* async fn $name($world: World $(= $options)?) $body)+ }
        crate::on_engine! { docker, on_docker, $($name $(= $options)?),+ }
        crate::on_engine! { kubernetes, on_kubernetes, $($name $(= $options)?),+ }
    };
}
pub(crate) use on_every_engine;

/// A module of tests on the worlds that a function of [`world::World`] makes, where it can.
macro_rules! on_engine {
    ($module:ident, $make:ident, $($name:ident $(= $options:expr)?),+) => {
        mod $module {
            #[allow(unused_imports, reason = "the options of a world need what is beside it")]
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let options = [$($options)?].into_iter().next().unwrap_or_default();
                if let Some(world) = crate::world::World::$make(options).await {
                    super::$name(world).await;
                }
            })+
        }
    };
}
pub(crate) use on_engine;
