//! Charts: drawn as SVG or plain markup of numbers, times and words of our own.

pub mod bars;
pub mod meter;
pub mod queue_depth;
pub mod range;
pub mod svg;
pub mod throughput;
pub mod timeline;
pub mod usage;
