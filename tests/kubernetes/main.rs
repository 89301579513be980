//! The Kubernetes engine against a real cluster: the one that `FLOTILLA_TEST_KUBERNETES` names.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod ends;
mod node;
mod outage;
mod output;
mod rights;
mod scripted;
mod stop;
#[path = "../support/mod.rs"]
mod support;
mod world;
