//! What a node tells about itself: metrics, the audit log, tracing set-up.

pub mod audit;
pub mod log;
pub mod metrics;
