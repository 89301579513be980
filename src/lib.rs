//! Flotilla: a self-service for running containerized tasks. ARCHITECTURE.md shows how the folders depend on each other.

pub mod app;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod control;
pub mod engine;
pub mod http;
pub mod logs;
pub mod model;
pub mod service;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod wake;
pub mod wire;
