//! What a node tells about itself: metrics, what has happened of late, the audit log, panics, tracing set-up.

pub mod audit;
pub mod events;
pub mod history;
pub mod log;
pub mod metrics;
pub mod panic;
