//! curl, and a newer libcurl.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;

use super::{Mode, Operation, Target, limited};
use crate::harness::servers::PASSWORD;
use crate::harness::stand_in;

/// An endless upload by curl with these options, slow enough to last for seconds.
pub(crate) fn endless_upload(options: &[&str], to: SocketAddr, user: &str, name: &str) -> Child {
    let mut curl = Command::new("curl")
        .args(["-q", "--silent", "--limit-rate", "200K", "--upload-file", "-"])
        .args(options)
        .args(["--user", &format!("{user}:{PASSWORD}")])
        .arg(format!("ftp://{to}/{name}"))
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = curl.stdin.take().unwrap();
    thread::spawn(move || while stdin.write_all(&[7; 4096]).is_ok() {});
    curl
}

pub(super) fn curl(target: Target<'_>, operation: Operation<'_>) -> Command {
    let mut curl = limited("curl");
    // By itself curl does not go where 227 points.
    curl.args(["-q", "-sS", "--no-ftp-skip-pasv-ip", "-u", &format!("{}:{PASSWORD}", target.user)]);
    match target.mode {
        Mode::Epsv => {}
        Mode::Pasv => drop(curl.arg("--disable-epsv")),
        Mode::Eprt => drop(curl.args(["--ftp-port", "-"])),
        Mode::Port => drop(curl.args(["--ftp-port", "-", "--disable-eprt"])),
    }
    if let Some(authority) = target.tls.authority() {
        curl.args(["--ssl-reqd", "--cacert", &authority]);
    }
    if target.ascii {
        // By itself it translates what it downloads only.
        curl.args(["--use-ascii", "--crlf"]);
    }
    let url = |path: &str| {
        let path: String = path
            .bytes()
            .map(|byte| match byte {
                b'/' | b'.' | b'-' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {
                    char::from(byte).to_string()
                }
                _ => format!("%{byte:02X}"),
            })
            .collect();
        format!("{}://{}/{path}", target.tls.scheme(), target.address)
    };
    // Without a file to fetch, curl still wants to look at a directory.
    let quote = |curl: &mut Command, lines: &[String]| {
        lines.iter().for_each(|line| {
            curl.args(["-Q", line]);
        });
        curl.args(["--head", &url("")]);
    };
    match operation {
        Operation::Append { local, remote } => {
            curl.args(["--append", "-T"]).arg(local).arg(url(remote));
        }
        Operation::Delete(path) => quote(&mut curl, &[format!("DELE {path}")]),
        Operation::Download { remote, local } => {
            curl.arg("-o").arg(local).arg(url(remote));
        }
        Operation::List(path) => {
            curl.arg(url(path) + "/");
        }
        Operation::MakeDirectory(path) => quote(&mut curl, &[format!("MKD {path}")]),
        Operation::Mlsd(path) => {
            curl.args(["-X", "MLSD"]).arg(url(path) + "/");
        }
        Operation::Nlst(path) => {
            curl.arg("--list-only").arg(url(path) + "/");
        }
        Operation::RemoveDirectory(path) => quote(&mut curl, &[format!("RMD {path}")]),
        Operation::Rename { from, to } => {
            quote(&mut curl, &[format!("RNFR {from}"), format!("RNTO {to}")])
        }
        Operation::Resume { remote, local } => {
            curl.args(["-C", "-", "-o"]).arg(local).arg(url(remote));
        }
        Operation::Upload { local, remote } => {
            curl.arg("-T").arg(local).arg(url(remote));
        }
    }
    curl
}

/// A newer libcurl, as Debian's curl 7.88 says PROT P and then sends in the clear, in active mode.
pub(super) fn libcurl(target: Target<'_>, operation: Operation<'_>) -> Command {
    let mut python = limited(&stand_in("pycurl/bin/python").to_string_lossy());
    let base = format!("{}://{}", target.tls.scheme(), target.address);
    let kind = if target.ascii { "ascii" } else { "binary" };
    let eprt = if target.mode == Mode::Eprt { "1" } else { "0" };
    let authority = target.tls.authority().unwrap_or_default();
    python.args(["-", &authority, target.user, PASSWORD, kind, eprt]);
    match operation {
        Operation::Download { remote, local } => {
            python.args(["download", &format!("{base}/{remote}")]).arg(local)
        }
        Operation::Nlst(path) => python.args(["nlst", &format!("{base}/{path}/")]),
        Operation::Upload { local, remote } => {
            python.args(["upload", &format!("{base}/{remote}")]).arg(local)
        }
        other => panic!("{other:?} is not for this client"),
    };
    python
}

/// Arguments: authority, user, password, type, 1 for EPRT, operation, URL, local path.
pub(super) const LIBCURL: &str = r#"
import pycurl, sys
authority, user, password, kind, eprt, operation, url, *paths = sys.argv[1:]
curl = pycurl.Curl()
for option, value in [
    (curl.URL, url),
    (curl.USERPWD, f"{user}:{password}"),
    (curl.CAINFO, authority),
    (curl.USE_SSL, pycurl.USESSL_ALL),
    (curl.FTPPORT, "-"),
    (curl.FTP_USE_EPRT, int(eprt)),
    (curl.TRANSFERTEXT, int(kind == "ascii")),
    (curl.CRLF, int(kind == "ascii" and operation == "upload")),
    (curl.DIRLISTONLY, int(operation == "nlst")),
]:
    curl.setopt(option, value)
match operation:
    case "download":
        curl.setopt(curl.WRITEDATA, open(paths[0], "wb"))
    case "nlst":
        curl.setopt(curl.WRITEDATA, sys.stdout.buffer)
    case "upload":
        curl.setopt(curl.UPLOAD, 1)
        curl.setopt(curl.READDATA, open(paths[0], "rb"))
curl.perform()
"#;
