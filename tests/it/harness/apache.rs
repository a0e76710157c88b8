//! Apache FtpServer: Transfer Family runs on it, so its habits are the ones that count.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::process::Process;
use super::{CONTROL_PORT, own_address, stand_in, wait_for};

/// The one user of every stand-in server.
pub const USER: &str = "test";
/// The user's password.
pub const PASSWORD: &str = "sekret-of-the-test-user";

/// A server with a directory of its own.
pub struct ApacheFtpServer {
    ip: Ipv4Addr,
    // Dropped before the directory that its log is in.
    process: Process,
    work: TempDir,
}

impl ApacheFtpServer {
    /// On an address of its own, with passive ports for any number of transfers.
    pub fn start() -> Self {
        Self::start_with("20000-24999", None)
    }

    /// With these passive ports, over `root` or a directory of its own.
    pub fn start_with(passive_ports: &str, root: Option<&Path>) -> Self {
        let (ip, work) = (own_address(), tempfile::tempdir().unwrap());
        let root = root.map_or_else(|| work.path().join("root"), Path::to_owned);
        std::fs::create_dir_all(&root).unwrap();
        let users = work.path().join("users.properties");
        let key = format!("ftpserver.user.{USER}");
        std::fs::write(
            &users,
            format!(
                "{key}.userpassword={PASSWORD}\n{key}.homedirectory={}\n{key}.enableflag=true\n\
                 {key}.writepermission=true\n{key}.maxloginnumber=0\n{key}.maxloginperip=0\n\
                 {key}.idletime=0\n{key}.uploadrate=0\n{key}.downloadrate=0\n",
                root.display()
            ),
        )
        .unwrap();
        let config = work.path().join("ftpd.xml");
        std::fs::write(
            &config,
            format!(
                r#"<server xmlns="http://mina.apache.org/ftpserver/spring/v1"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:schemaLocation="http://mina.apache.org/ftpserver/spring/v1 http://mina.apache.org/ftpserver/ftpserver-1.0.xsd"
    id="stand-in" max-threads="700" max-logins="5000" anon-enabled="false" max-login-failures="1000" login-failure-delay="1">
  <listeners>
    <nio-listener name="default" port="{CONTROL_PORT}" local-address="{ip}" idle-timeout="600">
      <data-connection idle-timeout="60">
        <active enabled="false"/>
        <passive ports="{passive_ports}" address="{ip}"/>
      </data-connection>
    </nio-listener>
  </listeners>
  <file-user-manager file="{}" encrypt-passwords="clear"/>
</server>
"#,
                users.display()
            ),
        )
        .unwrap();
        let jars = stand_in("apache-ftpserver").join("*");
        let mut java = Command::new("java");
        java.args([
            "-Xmx512m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        ])
        .arg("-cp")
        .arg(jars)
        .arg("org.apache.ftpserver.main.CommandLine")
        // Spring takes an absolute path for one relative to the working directory.
        .arg(&config)
        .current_dir("/");
        let mut process = Process::start(&mut java, &work.path().join("server.log"));
        wait_for("Apache FtpServer", || {
            process.must_run();
            TcpStream::connect((ip, CONTROL_PORT)).ok()
        });
        Self { ip, work, process }
    }

    pub fn address(&self) -> SocketAddr {
        (self.ip, CONTROL_PORT).into()
    }

    /// A file as it lies on its disk.
    pub fn read(&self, name: &str) -> std::io::Result<Vec<u8>> {
        std::fs::read(self.work.path().join("root").join(name))
    }

    /// The size of a file on its disk; 0 if there is none.
    pub fn size(&self, name: &str) -> u64 {
        std::fs::metadata(self.work.path().join("root").join(name)).map_or(0, |file| file.len())
    }

    /// Puts a file on its disk.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.work.path().join("root").join(name), bytes).unwrap();
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
