//! Flotilla: a self-service for running containerized tasks. ARCHITECTURE.md shows how the folders depend on each other.
// These macros panic if the reader is gone or the disk is full.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod app;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod control;
pub mod engine;
pub mod escapes;
pub mod http;
pub mod lease;
pub mod logs;
pub mod model;
pub mod service;
pub mod settings;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod wake;
pub mod wire;
pub mod words;
