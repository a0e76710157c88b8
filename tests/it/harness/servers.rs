//! Real FTP servers as child processes, each with an address, a directory and a log of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::certificates::{Authority, Certificate, KEYSTORE_PASSWORD};
use super::namespace::Network;
use super::process::Process;
use super::{PATIENCE, address, eventually, stand_in};

/// The control port of a server that is not told another.
const PORT: u16 = 2121;
/// What every account here is opened with.
pub(crate) const PASSWORD: &str = "secret";
/// The same as crypt(3) keeps it.
const PASSWORD_HASH: &str = "$6$gateway$h6LI3xBIl2uJZe0zsgVPD6p6TXul7ZKo/oJX6uqnFZApvLjLQ6lOMIyXU7hski7l.d6x56kd4iDgi05zSIi491";
/// Debian's `nobody` and `nogroup`.
const NOBODY: u32 = 65534;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    ApacheFtpServer,
    ProFtpd,
    PureFtpd,
    Vsftpd,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    /// Its control port.
    pub(crate) address: SocketAddr,
    /// The directory that its user starts in.
    pub(crate) root: PathBuf,
    pub(crate) process: Process,
    _directory: TempDir,
    _certificate: Option<Certificate>,
}

/// How a server speaks TLS. Those that can demand it for logins and for data do, and that a data
/// connection resumes the TLS session of its control connection: vsftpd and proftpd.
#[derive(Debug)]
struct Tls {
    certificate: Certificate,
    /// From the first byte.
    implicit: bool,
}

/// A server about to be started.
#[derive(Debug)]
pub(crate) struct ServerOptions<'a> {
    kind: Kind,
    inside: Option<&'a dyn Network>,
    port: u16,
    passive: String,
    root: Option<PathBuf>,
    read_only: bool,
    host: Ipv4Addr,
    ipv6: bool,
    tls: Option<Tls>,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] =
        [Self::ApacheFtpServer, Self::ProFtpd, Self::Vsftpd, Self::PureFtpd];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ApacheFtpServer => "Apache FtpServer",
            Self::ProFtpd => "proftpd",
            Self::PureFtpd => "pure-ftpd",
            Self::Vsftpd => "vsftpd",
        }
    }

    /// The account that may write; its password is [`PASSWORD`].
    pub(crate) const fn user(self) -> &'static str {
        match self {
            // Any other user of vsftpd would have to be a user of this machine.
            Self::Vsftpd => "anonymous",
            _ => "alice",
        }
    }
}

impl<'a> ServerOptions<'a> {
    /// In another network.
    pub(crate) fn inside(mut self, network: &'a dyn Network) -> Self {
        self.inside = Some(network);
        self.host = network.address();
        self
    }

    /// With TLS by AUTH, and a certificate of this authority for its address.
    pub(crate) fn tls(self, authority: &Authority) -> Self {
        let certificate = authority.issue(&[&self.host.to_string()]);
        self.certificate(certificate)
    }

    /// The same with a certificate whose time is over.
    pub(crate) fn expired(self, authority: &Authority) -> Self {
        let certificate = authority.issue_expired(&[&self.host.to_string()]);
        self.certificate(certificate)
    }

    /// The same with a certificate that may be for anything.
    pub(crate) fn certificate(mut self, certificate: Certificate) -> Self {
        self.tls = Some(Tls { certificate, implicit: false });
        self
    }

    /// TLS from the first byte; not pure-ftpd. After [`ServerOptions::tls`].
    pub(crate) fn implicit(mut self) -> Self {
        assert_ne!(self.kind, Kind::PureFtpd);
        self.tls.as_mut().unwrap().implicit = true;
        self
    }

    /// At that address, which may have been another's.
    pub(crate) fn at(mut self, host: Ipv4Addr) -> Self {
        self.host = host;
        self
    }

    /// Its control port; Apache FtpServer only.
    pub(crate) fn port(mut self, port: u16) -> Self {
        assert_eq!(self.kind, Kind::ApacheFtpServer);
        self.port = port;
        self
    }

    /// The ports it may announce; many by default, so that it never is the bottleneck.
    pub(crate) fn passive(mut self, ports: &str) -> Self {
        self.passive = ports.into();
        self
    }

    /// Serve this directory, which may be another server's too.
    pub(crate) fn root(mut self, root: &Path) -> Self {
        self.root = Some(root.into());
        self
    }

    /// Its user may not write; Apache FtpServer only.
    pub(crate) fn read_only(mut self) -> Self {
        assert_eq!(self.kind, Kind::ApacheFtpServer);
        self.read_only = true;
        self
    }

    /// At `::1`, with ports that nobody else has; Apache FtpServer and vsftpd only.
    pub(crate) fn ipv6(mut self) -> Self {
        assert!(matches!(self.kind, Kind::ApacheFtpServer | Kind::Vsftpd));
        self.ipv6 = true;
        self.port = address::unused_ports();
        self.passive = format!("{}-{}", self.port + 1, self.port + 15);
        self
    }

    /// Starts it and waits for its banner.
    pub(crate) fn start(self) -> Server {
        let directory = TempDir::with_prefix("ftpgate-server-").unwrap();
        // Servers drop their privileges and must still get here.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = self.root.clone().unwrap_or_else(|| directory.path().join("root"));
        fs::create_dir_all(&root).unwrap();
        let host: IpAddr = match self.ipv6 {
            true => Ipv6Addr::LOCALHOST.into(),
            false => self.host.into(),
        };
        let command = match self.kind {
            Kind::ApacheFtpServer => self.apache_ftpserver(directory.path(), &root, host),
            Kind::ProFtpd => self.proftpd(directory.path(), &root, host),
            Kind::PureFtpd => self.pure_ftpd(directory.path(), &root, host),
            Kind::Vsftpd => self.vsftpd(directory.path(), &root, host),
        };
        let command = match self.inside {
            Some(network) => network.wrap(&command),
            None => command,
        };
        let mut process = Process::start(self.kind.name(), command, &directory.path().join("log"));
        let address = SocketAddr::from((host, self.port));
        eventually("a server's banner", || {
            assert!(process.is_running(), "{} has ended: {}", self.kind.name(), process.output());
            let connect = || TcpStream::connect(address);
            let stream =
                self.inside.map_or_else(connect, |network| network.connect(address)).ok()?;
            match &self.tls {
                // It waits for the client's first word.
                Some(tls) if tls.implicit => Some(String::new()),
                _ => banner(stream),
            }
        });
        let _certificate = self.tls.map(|tls| tls.certificate);
        Server { kind: self.kind, address, root, process, _directory: directory, _certificate }
    }

    /// Its data time-out also limits how long it waits for a data connection that never comes.
    fn apache_ftpserver(&self, directory: &Path, root: &Path, host: IpAddr) -> Command {
        let users = directory.join("users.properties");
        let (implicit, ssl) = match &self.tls {
            None => (false, String::new()),
            Some(tls) => (
                tls.implicit,
                format!(
                    r#"<ssl><keystore file="{}" password="{KEYSTORE_PASSWORD}" type="PKCS12"/></ssl>"#,
                    tls.certificate.keystore.display()
                ),
            ),
        };
        fs::write(
            directory.join("ftpserver.xml"),
            format!(
                r#"<server xmlns="http://mina.apache.org/ftpserver/spring/v1" id="server"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://mina.apache.org/ftpserver/spring/v1 http://mina.apache.org/ftpserver/ftpserver-1.0.xsd"
  max-logins="5000" max-threads="700" anon-enabled="false" login-failure-delay="0" max-login-failures="1000">
  <listeners>
    <nio-listener name="default" local-address="{host}" port="{port}" idle-timeout="600" implicit-ssl="{implicit}">
      {ssl}
      <data-connection idle-timeout="30">
        <active enabled="false"/>
        <passive ports="{ports}" address="{host}"/>
      </data-connection>
    </nio-listener>
  </listeners>
  <file-user-manager file="{users}" encrypt-passwords="clear"/>
</server>"#,
                port = self.port,
                ports = self.passive,
                users = users.display(),
            ),
        )
        .unwrap();
        let mut account = String::new();
        for (key, value) in [
            ("userpassword", PASSWORD),
            ("homedirectory", &root.to_string_lossy()),
            ("enableflag", "true"),
            ("writepermission", if self.read_only { "false" } else { "true" }),
            // 0: without limit.
            ("maxloginnumber", "0"),
            ("maxloginperip", "0"),
            ("idletime", "0"),
            ("uploadrate", "0"),
            ("downloadrate", "0"),
        ] {
            account += &format!("ftpserver.user.{}.{key}={value}\n", self.kind.user());
        }
        fs::write(&users, account).unwrap();
        let mut java = Command::new("java");
        // It is to start fast and leave the cores to others.
        java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m", "-Xss256k"])
            .args(["-Dfile.encoding=UTF-8", "-Dsun.jnu.encoding=UTF-8"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .env("LC_ALL", "C.UTF-8")
            .arg("-cp")
            .arg(stand_in("apache-ftpserver").join("*"))
            .arg("org.apache.ftpserver.main.CommandLine")
            // Spring takes every path as relative.
            .arg("ftpserver.xml")
            .current_dir(directory);
        java
    }

    fn proftpd(&self, directory: &Path, root: &Path, host: IpAddr) -> Command {
        let configuration = directory.join("proftpd.conf");
        let users = directory.join("users");
        fs::write(
            &users,
            format!("{}:{PASSWORD_HASH}:0:0::{}:/bin/sh\n", self.kind.user(), root.display()),
        )
        .unwrap();
        fs::set_permissions(&users, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(
            &configuration,
            format!(
                "ServerType standalone\nDefaultAddress {host}\nPort {PORT}\nSocketBindTight on\nUseIPv6 off\n\
                 User root\nGroup root\nRootLogin on\nAuthOrder mod_auth_file.c\nAuthUserFile {users}\n\
                 RequireValidShell off\nDefaultRoot {root}\nPassivePorts {ports}\nAllowOverwrite on\n\
                 AllowStoreRestart on\nAllowRetrieveRestart on\nMaxInstances none\nUseReverseDNS off\n\
                 DelayEngine off\nWtmpLog off\nTransferLog none\nSystemLog none\n\
                 PidFile {directory}/pid\nScoreboardFile {directory}/scoreboard\n",
                users = users.display(),
                root = root.display(),
                ports = self.passive.replace('-', " "),
                directory = directory.display(),
            ),
        )
        .unwrap();
        if let Some(Tls { certificate, implicit }) = &self.tls {
            let mut text = fs::read_to_string(&configuration).unwrap();
            text += &format!(
                "ModulePath {}\nLoadModule mod_tls.c\nTLSEngine on\nTLSRequired on\nTLSProtocol TLSv1.2 TLSv1.3\n\
                 TLSECCertificateFile {}\nTLSECCertificateKeyFile {}\nTLSLog {}/tls.log\n",
                stand_in("proftpd-mod-crypto/usr/lib/proftpd").display(),
                certificate.certificate.display(),
                certificate.key.display(),
                directory.display(),
            );
            if *implicit {
                text += "TLSOptions UseImplicitSSL\n";
            }
            fs::write(&configuration, text).unwrap();
        }
        let mut proftpd = Command::new(stand_in("proftpd-core/usr/sbin/proftpd"));
        proftpd.args(["--nodaemon", "--quiet", "--config"]).arg(configuration);
        proftpd
    }

    fn pure_ftpd(&self, directory: &Path, root: &Path, host: IpAddr) -> Command {
        // It serves nobody whose user id is root's.
        chown(root, Some(NOBODY), Some(NOBODY)).unwrap();
        let users = directory.join("users");
        let line = format!(
            "{}:{PASSWORD_HASH}:{NOBODY}:{NOBODY}::{}/./",
            self.kind.user(),
            root.display()
        );
        fs::write(&users, format!("{line}::::::::::::\n")).unwrap();
        let database = directory.join("users.pdb");
        let mkdb = Command::new(stand_in("pure-ftpd/usr/bin/pure-pw"))
            .arg("mkdb")
            .arg(&database)
            .arg("-f")
            .arg(&users)
            .status()
            .unwrap();
        assert!(mkdb.success());
        let mut pure_ftpd = Command::new(stand_in("pure-ftpd/usr/sbin/pure-ftpd"));
        pure_ftpd
            .args(["-4", "-H", "-c", "1000", "-C", "1000", "-u", "1"])
            .arg("-S")
            .arg(format!("{host},{PORT}"))
            .arg("-p")
            .arg(self.passive.replace('-', ":"))
            .arg("-l")
            .arg(format!("puredb:{}", database.display()))
            .arg("-g")
            .arg(directory.join("pid"));
        if let Some(tls) = &self.tls {
            // 3: neither logins nor data without it.
            pure_ftpd.arg("--tls=3");
            pure_ftpd.arg(format!("--certfile={}", tls.certificate.both.display()));
        }
        pure_ftpd
    }

    fn vsftpd(&self, directory: &Path, root: &Path, host: IpAddr) -> Command {
        let configuration = directory.join("vsftpd.conf");
        let (low, high) = self.passive.split_once('-').unwrap();
        let (listen, six) = if self.ipv6 { ("listen_ipv6", "6") } else { ("listen", "") };
        fs::write(
            &configuration,
            format!(
                "{listen}=YES\nlisten_address{six}={host}\nlisten_port={port}\nbackground=NO\n\
                 anonymous_enable=YES\nno_anon_password=NO\nlocal_enable=NO\nanon_root={root}\n\
                 write_enable=YES\nanon_upload_enable=YES\nanon_mkdir_write_enable=YES\n\
                 anon_other_write_enable=YES\nanon_umask=022\nanon_world_readable_only=NO\n\
                 run_as_launching_user=YES\nallow_writeable_chroot=YES\nseccomp_sandbox=NO\n\
                 isolate=NO\nisolate_network=NO\nnopriv_user=root\nftp_username=root\n\
                 secure_chroot_dir={directory}\nconnect_from_port_20=NO\nxferlog_enable=NO\n\
                 pasv_min_port={low}\npasv_max_port={high}\nmax_clients=0\nmax_per_ip=0\n",
                root = root.display(),
                port = self.port,
                directory = directory.display(),
            ),
        )
        .unwrap();
        if let Some(Tls { certificate, implicit }) = &self.tls {
            let mut text = fs::read_to_string(&configuration).unwrap();
            text += &format!(
                "ssl_enable=YES\nallow_anon_ssl=YES\nforce_anon_data_ssl=YES\nforce_anon_logins_ssl=YES\n\
                 require_ssl_reuse=YES\nssl_ciphers=HIGH\nrsa_cert_file={}\nrsa_private_key_file={}\n",
                certificate.certificate.display(),
                certificate.key.display(),
            );
            if *implicit {
                text += "implicit_ssl=YES\n";
            }
            fs::write(&configuration, text).unwrap();
        }
        let mut vsftpd = Command::new(stand_in("vsftpd/usr/sbin/vsftpd"));
        vsftpd.arg(configuration);
        vsftpd
    }
}

impl Server {
    /// A server with defaults.
    pub(crate) fn start(kind: Kind) -> Self {
        Self::options(kind).start()
    }

    /// A server to be adjusted first.
    pub(crate) fn options<'a>(kind: Kind) -> ServerOptions<'a> {
        ServerOptions {
            kind,
            inside: None,
            port: PORT,
            passive: "20000-20999".into(),
            root: None,
            read_only: false,
            host: address::unused(),
            ipv6: false,
            tls: None,
        }
    }

    /// A path in the directory that clients start in.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Creates a directory that its user may write to.
    pub(crate) fn create_dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        self.own(&path);
        path
    }

    /// Puts a file there.
    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        self.own(&path);
    }

    /// What a file there holds now.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name))
            .unwrap_or_else(|error| panic!("{name} on {}: {error}", self.kind.name()))
    }

    fn own(&self, path: &Path) {
        if self.kind == Kind::PureFtpd {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    /// Kills it outright.
    pub(crate) fn sigkill(&mut self) {
        self.process.sigkill();
    }
}

/// Its first line, if it says one.
fn banner(stream: TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    (!line.is_empty()).then_some(line)
}
