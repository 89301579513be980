//! Flotilla: a self-service for running containerized tasks. ARCHITECTURE.md shows how the folders depend on each other.

pub mod client;
pub mod engine;
pub mod logs;
pub mod model;
pub mod store;
pub mod wire;
