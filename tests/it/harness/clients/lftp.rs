//! lftp.

use super::{Mode, Operation, Target};
use crate::harness::servers::PASSWORD;

pub(super) fn script(target: Target<'_>, operation: Operation<'_>) -> String {
    let epsv = target.mode == Mode::Epsv;
    let passive = matches!(target.mode, Mode::Epsv | Mode::Pasv);
    let ascii = if target.ascii { "-a " } else { "" };
    let tls = match target.tls.authority() {
        None => "set ftp:ssl-allow no\n".to_owned(),
        Some(authority) => format!(
            "set ftp:ssl-force yes\nset ftp:ssl-protect-data yes\nset ssl:ca-file \"{authority}\"\n"
        ),
    };
    let settings = format!(
        "set cmd:fail-exit yes\nset net:max-retries 1\nset net:timeout 20\n{tls}\
         set ftp:passive-mode {passive}\nset ftp:fix-pasv-address no\nset ftp:prefer-epsv {epsv}\nset ftp:use-mdtm no\n\
         set ftp:use-mlsd {mlsd}\nset ftp:charset UTF-8\nset file:charset UTF-8\nset cmd:interactive no\n",
        mlsd = matches!(operation, Operation::Mlsd(_)),
    );
    let line = match operation {
        Operation::Append { local, remote } => {
            format!("put -c \"{}\" -o \"{remote}\"", local.display())
        }
        Operation::Delete(path) => format!("rm \"{path}\""),
        Operation::Download { remote, local } => {
            format!("get {ascii}\"{remote}\" -o \"{}\"", local.display())
        }
        Operation::List(path) => format!("ls \"{path}/\""),
        Operation::MakeDirectory(path) => format!("mkdir \"{path}\""),
        Operation::Mlsd(path) => format!("cls -1 \"{path}/\""),
        Operation::Nlst(path) => format!("nlist \"{path}/\""),
        Operation::RemoveDirectory(path) => format!("rmdir \"{path}\""),
        Operation::Rename { from, to } => format!("mv \"{from}\" \"{to}\""),
        Operation::Resume { remote, local } => {
            format!("get -c \"{remote}\" -o \"{}\"", local.display())
        }
        Operation::Upload { local, remote } => {
            format!("put {ascii}\"{}\" -o \"{remote}\"", local.display())
        }
    };
    // So that its commands can be seen.
    let debug =
        if matches!(operation, Operation::Mlsd(_)) { "debug -o /dev/stdout 5\n" } else { "" };
    format!(
        "{settings}{debug}open -u {},{PASSWORD} {}://{}\n{line}\n",
        target.user,
        target.tls.scheme(),
        target.address
    )
}
