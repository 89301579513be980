//! Charts: SVG or plain markup made only of numbers, times and our own words.

pub mod bars;
pub mod meter;
pub mod queue_depth;
pub mod range;
pub mod svg;
pub mod throughput;
pub mod timeline;
pub mod usage;
