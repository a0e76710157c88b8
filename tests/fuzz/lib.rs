//! What of ftpgate reads the bytes of strangers, as a crate of its own: these rooms need no other, so a fuzzer
//! is built in seconds, without the AWS SDK and all else that it would never reach.

#[path = "../../src/config/mod.rs"]
pub mod config;
#[path = "../../src/ftp/mod.rs"]
pub mod ftp;
