//! Python's ftplib.

use std::process::Command;

use super::{Operation, Target, limited};
use crate::harness::servers::PASSWORD;

pub(super) fn ftplib(target: Target<'_>, operation: Operation<'_>) -> Command {
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
pub(super) const FTPLIB: &str = r#"
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
