//! The pages through the real router, with the fake engine and loops stepped by hand.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that fails says where and why")]

mod page;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "the API's tests use the rest of it")]
#[path = "../api/world.rs"]
mod world;

mod below_a_path;
mod changes;
mod clusters;
mod forms;
mod frame;
mod hostile;
mod launches;
mod log;
mod overview;
mod run;
mod runs;
mod tasks;
