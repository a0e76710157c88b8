//! FTP clients as people have them, one short run per operation.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use super::servers::PASSWORD;
use super::stand_in;

/// Seconds that one run may take; a client that hangs is a failure, not a wait.
const TIME_LIMIT: &str = "60";

/// Which client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Curl,
    Ftplib,
    Lftp,
    Tnftp,
}

/// How it asks for a data connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Eprt,
    Epsv,
    Pasv,
    Port,
}

/// Whether it speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls<'a> {
    Off,
    /// By AUTH TLS, with data protected, trusting this authority's certificate.
    Explicit(&'a Path),
    /// From the first byte.
    Implicit(&'a Path),
}

/// What it is to do, with paths relative to the login directory.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation<'a> {
    Append {
        local: &'a Path,
        remote: &'a str,
    },
    Delete(&'a str),
    Download {
        remote: &'a str,
        local: &'a Path,
    },
    /// With the trailing slash left out.
    List(&'a str),
    MakeDirectory(&'a str),
    Mlsd(&'a str),
    Nlst(&'a str),
    RemoveDirectory(&'a str),
    Rename {
        from: &'a str,
        to: &'a str,
    },
    /// Completes what is there of `local`.
    Resume {
        remote: &'a str,
        local: &'a Path,
    },
    Upload {
        local: &'a Path,
        remote: &'a str,
    },
}

/// Where to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) user: &'a str,
    pub(crate) mode: Mode,
    /// In TYPE A; uploads and downloads only.
    pub(crate) ascii: bool,
    pub(crate) tls: Tls<'a>,
}

impl<'a> Target<'a> {
    /// In the clear, and in TYPE I.
    pub(crate) fn new(address: SocketAddr, user: &'a str, mode: Mode) -> Self {
        Self { address, user, mode, ascii: false, tls: Tls::Off }
    }

    /// In active mode with TLS.
    fn is_private_callback(self) -> bool {
        self.tls != Tls::Off && matches!(self.mode, Mode::Port | Mode::Eprt)
    }
}

impl Tls<'_> {
    /// The certificate that is trusted.
    fn authority(self) -> Option<String> {
        match self {
            Self::Off => None,
            Self::Explicit(path) | Self::Implicit(path) => Some(path.display().to_string()),
        }
    }

    fn scheme(self) -> &'static str {
        if matches!(self, Self::Implicit(_)) { "ftps" } else { "ftp" }
    }
}

impl Client {
    pub(crate) const ALL: [Self; 4] = [Self::Curl, Self::Lftp, Self::Tnftp, Self::Ftplib];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::Ftplib => "ftplib",
            Self::Lftp => "lftp",
            Self::Tnftp => "tnftp",
        }
    }

    /// Whether it has that mode with that kind of address, and TLS if asked for.
    pub(crate) fn can(self, target: Target<'_>) -> bool {
        let ipv6 = target.address.is_ipv6();
        match (self, target.mode) {
            // It knows no TLS.
            (Self::Tnftp, _) if target.tls != Tls::Off => false,
            // These are for IPv4 only.
            (_, Mode::Pasv | Mode::Port) => !ipv6,
            // It says EPRT with IPv6 only.
            (Self::Lftp, Mode::Eprt) => ipv6,
            _ => true,
        }
    }

    /// Runs the operation in a process of its own: what it printed, or how it failed.
    pub(crate) fn run(
        self,
        target: Target<'_>,
        operation: Operation<'_>,
    ) -> Result<String, String> {
        let scratch = tempfile::tempdir().unwrap();
        let (mut command, script) = match self {
            Self::Curl if target.is_private_callback() => {
                (libcurl(target, operation), LIBCURL.into())
            }
            Self::Curl => (curl(target, operation), String::new()),
            Self::Ftplib => (ftplib(target, operation), FTPLIB.into()),
            Self::Lftp => (limited("lftp"), lftp(target, operation)),
            Self::Tnftp => (tnftp(), tnftp_script(target, operation)),
        };
        let input = scratch.path().join("script");
        std::fs::write(&input, script).unwrap();
        // Neither the user's settings nor a proxy may interfere.
        command.env("HOME", scratch.path()).env("LC_ALL", "C.UTF-8");
        ["ftp_proxy", "FTP_PROXY", "all_proxy", "ALL_PROXY"].iter().for_each(|name| {
            command.env_remove(name);
        });
        let output = command.stdin(Stdio::from(File::open(&input).unwrap())).output().unwrap();
        let printed = [&output.stdout[..], &output.stderr[..]]
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .concat();
        let refused = match (self, operation) {
            // Its exit code says nothing about commands that it read.
            (Self::Tnftp, _) => {
                printed.lines().any(|line| code(line).is_some_and(|code| code >= 400))
            }
            // It makes do with LIST when there is no MLSD.
            (Self::Lftp, Operation::Mlsd(_)) => !printed.contains("---> MLSD"),
            _ => false,
        };
        if output.status.success() && !refused {
            Ok(printed)
        } else {
            Err(format!("{}: {printed}", output.status))
        }
    }
}

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

/// The reply code that a line opens with.
fn code(line: &str) -> Option<u16> {
    let (code, rest) = line.split_at_checked(3)?;
    rest.starts_with([' ', '-']).then(|| code.parse().ok()).flatten()
}

fn limited(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", TIME_LIMIT, program]);
    command
}

fn curl(target: Target<'_>, operation: Operation<'_>) -> Command {
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
fn libcurl(target: Target<'_>, operation: Operation<'_>) -> Command {
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
const LIBCURL: &str = r#"
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

fn lftp(target: Target<'_>, operation: Operation<'_>) -> String {
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

fn tnftp() -> Command {
    let mut tnftp = limited("tnftp");
    tnftp.args(["-n", "-i", "-v"]);
    tnftp
}

fn tnftp_script(target: Target<'_>, operation: Operation<'_>) -> String {
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

fn ftplib(target: Target<'_>, operation: Operation<'_>) -> Command {
    let (host, port) = (target.address.ip().to_string(), target.address.port().to_string());
    let mode = format!("{:?}", target.mode).to_uppercase();
    let kind = if target.ascii { "ascii" } else { "binary" };
    let tls = target.tls.authority().unwrap_or_default();
    let mut python = limited("/usr/bin/python3");
    python.args(["-", &host, &port, target.user, PASSWORD, &mode, kind]);
    python.args([target.tls.scheme(), &tls]);
    match operation {
        Operation::Append { local, remote } => python.arg("append").arg(local).arg(remote),
        Operation::Delete(path) => python.args(["delete", path]),
        Operation::Download { remote, local } => python.args(["download", remote]).arg(local),
        Operation::List(path) => python.args(["list", path]),
        Operation::MakeDirectory(path) => python.args(["mkd", path]),
        Operation::Mlsd(path) => python.args(["mlsd", path]),
        Operation::Nlst(path) => python.args(["nlst", path]),
        Operation::RemoveDirectory(path) => python.args(["rmd", path]),
        Operation::Rename { from, to } => python.args(["rename", from, to]),
        Operation::Resume { remote, local } => python.args(["resume", remote]).arg(local),
        Operation::Upload { local, remote } => python.arg("upload").arg(local).arg(remote),
    };
    python
}

/// Arguments: host, port, user, password, mode, type, scheme, authority, operation, its arguments.
const FTPLIB: &str = r#"
import ftplib, os, socket, ssl, sys
host, port, user, password, mode, kind, scheme, authority, operation, *paths = sys.argv[1:]

class Client(ftplib.FTP):
    # By itself ftplib does not go where 227 points.
    trust_server_pasv_ipv4_address = True

    def makepasv(self):
        if mode == "PASV":
            return super().makepasv()
        return ftplib.parse229(self.sendcmd("EPSV"), self.sock.getpeername())

    def sendport(self, host, port):
        if mode == "PORT":
            return super().sendport(host, port)
        return self.sendeprt(host, port)

class Secure(Client, ftplib.FTP_TLS):
    implicit = scheme == "ftps"
    _sock = None

    @property
    def sock(self):
        return self._sock

    @sock.setter
    def sock(self, value):
        if self.implicit and value is not None and not isinstance(value, ssl.SSLSocket):
            value = self.context.wrap_socket(value, server_hostname=self.host)
        self._sock = value

    # By itself ftplib begins a TLS session of its own for each data connection.
    def ntransfercmd(self, cmd, rest=None):
        conn, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        return self.context.wrap_socket(conn, server_hostname=self.host, session=self.sock.session), size

if authority:
    ftp = Secure(timeout=30, context=ssl.create_default_context(cafile=authority))
else:
    ftp = Client(timeout=30)
ftp.set_pasv(mode in ("EPSV", "PASV"))
ftp.connect(host, int(port))
if authority:
    if scheme == "ftp":
        ftp.auth()
    ftp.prot_p()
ftp.login(user, password)
match operation:
    case "append":
        ftp.storbinary("APPE " + paths[1], open(paths[0], "rb"))
    case "delete":
        ftp.delete(paths[0])
    case "download" if kind == "ascii":
        with open(paths[1], "w", newline="\n") as local:
            ftp.retrlines("RETR " + paths[0], lambda line: print(line, file=local))
    case "download":
        ftp.retrbinary("RETR " + paths[0], open(paths[1], "wb").write, 1 << 20)
    case "list":
        ftp.dir(paths[0])
    case "mkd":
        ftp.mkd(paths[0])
    case "mlsd":
        print("\n".join(name for name, facts in ftp.mlsd(paths[0])))
    case "nlst":
        print("\n".join(ftp.nlst(paths[0])))
    case "rmd":
        ftp.rmd(paths[0])
    case "rename":
        ftp.rename(*paths)
    case "resume":
        ftp.retrbinary("RETR " + paths[0], open(paths[1], "ab").write, 1 << 20, os.path.getsize(paths[1]))
    case "upload" if kind == "ascii":
        ftp.storlines("STOR " + paths[1], open(paths[0], "rb"))
    case "upload":
        ftp.storbinary("STOR " + paths[1], open(paths[0], "rb"), 1 << 20)
ftp.quit()
"#;
