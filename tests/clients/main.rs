//! The API's description, as other programs use it: judged by a validator, made into clients by generators of two
//! languages, which walk a journey against the real server, and asked everything it allows by a property-based client.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that fails says where and why")]

#[path = "../program/mod.rs"]
mod program;
mod properties;
mod python;
#[path = "../support/mod.rs"]
mod support;
mod tools;
mod typescript;
#[allow(dead_code, reason = "the world of tests/api, of which a part is used here")]
#[path = "../api/world.rs"]
mod world;
