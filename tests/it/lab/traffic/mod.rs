//! Traffic: clients of every kind over FTP and FTPS, and a checker that knows every file and hears what
//! every client saw.

pub(crate) mod checker;
pub(crate) mod load;
pub(crate) mod pace;
pub(crate) mod session;
mod transfer;
