//! tnftp, the command `ftp` of BSD and of Debian.

use std::process::Command;

use super::{Mode, Operation, Target, limited};
use crate::harness::servers::PASSWORD;

pub(super) fn tnftp() -> Command {
    let mut tnftp = limited("tnftp");
    tnftp.args(["-n", "-i", "-v"]);
    tnftp
}

pub(super) fn script(target: Target<'_>, operation: Operation<'_>) -> String {
    let line = match operation {
        Operation::Append { local, remote } => {
            format!("append \"{}\" \"{remote}\"", local.display())
        }
        Operation::Delete(path) => format!("delete \"{path}\""),
        Operation::Download { remote, local } => {
            format!("get \"{remote}\" \"{}\"", local.display())
        }
        Operation::List(path) => format!("ls \"{path}\""),
        Operation::MakeDirectory(path) => format!("mkdir \"{path}\""),
        Operation::Mlsd(path) => format!("mlsd \"{path}\""),
        Operation::Nlst(path) => format!("nlist \"{path}\""),
        Operation::RemoveDirectory(path) => format!("rmdir \"{path}\""),
        Operation::Rename { from, to } => format!("rename \"{from}\" \"{to}\""),
        Operation::Resume { remote, local } => {
            format!("reget \"{remote}\" \"{}\"", local.display())
        }
        Operation::Upload { local, remote } => format!("put \"{}\" \"{remote}\"", local.display()),
    };
    // EPSV is its default, and a word of its own turns it off.
    let epsv = match (target.mode, target.address.is_ipv6()) {
        (Mode::Pasv | Mode::Port, false) => "epsv4\n",
        _ => "",
    };
    let active = if matches!(target.mode, Mode::Port | Mode::Eprt) { "passive off\n" } else { "" };
    let kind = if target.ascii { "ascii" } else { "binary" };
    format!(
        "open {} {}\nuser {} {PASSWORD}\n{kind}\n{epsv}{active}{line}\nquit\n",
        target.address.ip(),
        target.address.port(),
        target.user
    )
}

/// The reply code that a line opens with.
pub(super) fn code(line: &str) -> Option<u16> {
    let (code, rest) = line.split_at_checked(3)?;
    rest.starts_with([' ', '-']).then(|| code.parse().ok()).flatten()
}
