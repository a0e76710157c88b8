//! The lease: which of the nodes moves the clients, agreed on through one object in S3.

pub mod protocol;
#[cfg(test)]
mod tests;
