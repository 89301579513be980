//! Flotilla: a self-service for running containerized tasks. ARCHITECTURE.md shows how the folders depend on each other.

pub mod clock;
pub mod control;
pub mod engine;
pub mod logs;
pub mod model;
pub mod service;
pub mod store;
pub mod wake;
pub mod wire;
