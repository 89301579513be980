//! The Docker engine against a real daemon: the one that `FLOTILLA_TEST_DOCKER` names, and for what must not be done to a
//! shared one (ending it, a registry of its own) daemons that a test starts itself.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod broken;
mod daemon;
mod fake;
mod images;
mod lifecycle;
mod output;
mod outside;
#[path = "../program/mod.rs"]
mod program;
mod restart;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod world;
