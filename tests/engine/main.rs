//! The engine contract, run on every engine, and what only one engine promises.
//!
//! A new engine joins by a module with a `world` function and a `contract!(world)`.

mod contract;
mod docker;
mod fake;
mod local;
#[path = "../support/mod.rs"]
mod support;
mod world;
