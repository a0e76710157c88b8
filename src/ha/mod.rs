//! The pair: the role of this node, and what moves clients to it.

pub mod ask;
mod clock;
pub mod lease;
mod name;
mod peer;
mod report;
pub mod role;
mod steering;
