//! The engine contract, run on every engine, and what only one engine promises.
//!
//! A new engine joins by a module with a `world` function and a `contract!(world)`.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that fails says where and why")]

mod contract;
mod docker;
mod fake;
mod kubernetes;
mod local;
#[path = "../support/mod.rs"]
mod support;
mod world;
