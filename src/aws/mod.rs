//! Thin adapters to AWS. Only this room names a type of the AWS SDK.

pub mod imds;
