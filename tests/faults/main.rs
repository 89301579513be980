//! What goes wrong around a server, through the real binary: it says so, loses nothing, and goes on when it can.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that fails says where and why")]

#[path = "../program/mod.rs"]
mod program;
#[path = "../support/mod.rs"]
mod support;

mod database;
mod disk;
mod http;
mod load;
mod postgres;
mod privacy;
mod servers;
mod start;
mod stop;
mod world;
