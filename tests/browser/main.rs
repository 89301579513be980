//! The pages in a real browser, with the real binary behind them.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that fails says where and why")]

mod accessible;
mod behind_nginx;
mod browser;
mod current;
mod forms;
mod journey;
mod log;
mod nginx;
mod other_site;
#[path = "../program/mod.rs"]
mod program;
mod proxy;
#[path = "../support/mod.rs"]
mod support;
