//! The pair: the role of this node, and what moves clients to it.

pub mod lease;
