//! AWS, as far as the gateway sees it: S3 over a directory, Secrets Manager, instance metadata.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s::{S3Result, s3_error};
use s3s_fs::FileSystem;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::gateway::GatewayOptions;
use super::namespace::Network;
use super::process::Process;
use super::{PATIENCE, address, eventually, stand_in};

/// The credentials that [`S3`] takes; others it refuses.
pub(crate) const ACCESS_KEY: &str = "AKIAFTPGATETESTS";
pub(crate) const SECRET_KEY: &str = "the-secret-key-of-the-tests";
/// Where everything here is.
pub(crate) const REGION: &str = "ap-northeast-1";
/// A session token of the instance metadata service.
const TOKEN: &str = "a-token-of-the-tests";

impl GatewayOptions<'_> {
    /// An environment without anything of AWS, in which instance metadata comes from `imds`.
    fn off_aws(self, imds: SocketAddr) -> Self {
        self.env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{imds}"))
    }

    /// In AWS, with credentials and a region in the environment.
    pub(crate) fn in_aws(self) -> Self {
        self.without_region().env("AWS_REGION", REGION)
    }

    /// With credentials only.
    pub(crate) fn without_region(self) -> Self {
        self.without_credentials()
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    }

    /// With nothing, off any instance.
    pub(crate) fn without_credentials(self) -> Self {
        self.off_aws(nobody())
    }

    /// On an instance with a role, which is all that tells it who and where it is.
    pub(crate) fn on_instance(self, imds: &Imds) -> Self {
        self.off_aws(imds.address)
    }
}

/// An address where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    (address::unused(), 9).into()
}

// === S3 ===

/// S3 with one bucket, which is a directory that can be exchanged.
pub(crate) struct S3 {
    pub(crate) address: SocketAddr,
    pub(crate) bucket: String,
    buckets: TempDir,
    faults: Faults,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// 403: nobody may call it.
    Denied,
    /// 500.
    InternalError,
    /// No answer comes.
    Silence,
}

/// The operations that fail now.
#[derive(Debug, Clone, Default)]
struct Faults(Arc<Mutex<HashMap<&'static str, Fault>>>);

impl S3 {
    /// Serves what is in `directory`, put there by whomever.
    pub(crate) fn start(directory: &Path) -> Self {
        let buckets = TempDir::with_prefix("ftpgate-s3-").unwrap();
        let faults = Faults::default();
        let mut service = S3ServiceBuilder::new(FileSystem::new(buckets.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        service.set_access(faults.clone());
        let service = service.build();
        let listener = TcpListener::bind((address::unused(), 9000)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let (http, service) = (Builder::new(TokioExecutor::new()), service.clone());
                    tokio::spawn(async move {
                        let _ = http.serve_connection(TokioIo::new(stream), service).await;
                    });
                }
            });
        });
        let s3 = Self { address, bucket: "payroll".into(), buckets, faults };
        s3.serve(directory);
        s3
    }

    /// Serves another directory from now on.
    pub(crate) fn serve(&self, directory: &Path) {
        let new = self.buckets.path().join("new");
        std::os::unix::fs::symlink(directory, &new).unwrap();
        fs::rename(new, self.buckets.path().join(&self.bucket)).unwrap();
    }

    /// Denies these operations to everybody, and no others.
    pub(crate) fn deny(&self, operations: &[&'static str]) {
        let faults = operations.iter().map(|operation| (*operation, Fault::Denied));
        *self.faults.0.lock().unwrap() = faults.collect();
    }

    /// Fails in this operation, and in no other.
    pub(crate) fn fail(&self, operation: &'static str, fault: Fault) {
        *self.faults.0.lock().unwrap() = HashMap::from([(operation, fault)]);
    }
}

#[async_trait::async_trait]
impl S3Access for Faults {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let fault = self.0.lock().unwrap().get(context.s3_op().name()).copied();
        match fault {
            _ if context.credentials().is_none() => Err(s3_error!(AccessDenied)),
            None => Ok(()),
            Some(Fault::Denied) => Err(s3_error!(AccessDenied)),
            Some(Fault::InternalError) => Err(s3_error!(InternalError)),
            Some(Fault::Silence) => std::future::pending().await,
        }
    }
}

// === Secrets Manager ===

/// moto as a server.
pub(crate) struct Moto {
    pub(crate) address: SocketAddr,
    process: Process,
    _directory: TempDir,
}

impl Moto {
    pub(crate) fn start() -> Self {
        Self::start_in(None)
    }

    /// In another network.
    pub(crate) fn inside(network: &dyn Network) -> Self {
        Self::start_in(Some(network))
    }

    fn start_in(network: Option<&dyn Network>) -> Self {
        let directory = TempDir::with_prefix("ftpgate-moto-").unwrap();
        let address = network.map_or_else(address::unused, Network::address);
        let address = SocketAddr::from((address, 5000));
        let mut command = Command::new(stand_in("moto/bin/python"));
        command.args(["-m", "moto.server"]);
        command.args(["-H", &address.ip().to_string(), "-p", &address.port().to_string()]);
        if let Some(network) = network {
            command = network.wrap(&command);
        }
        let mut process = Process::start("moto", &command, &directory.path().join("log"));
        eventually("moto to listen", || {
            assert!(process.is_running(), "moto has ended: {}", process.output());
            let connect = || TcpStream::connect(address);
            network.map_or_else(connect, |network| network.connect(address)).ok()
        });
        Self { address, process, _directory: directory }
    }

    /// A secret of text, made or changed.
    pub(crate) fn put_secret(&self, name: &str, text: &str) {
        self.put(name, json!({ "SecretString": text }));
    }

    /// A secret of bytes, given in Base64.
    pub(crate) fn put_binary_secret(&self, name: &str, base64: &str) {
        self.put(name, json!({ "SecretBinary": base64 }));
    }

    fn put(&self, name: &str, mut content: Value) {
        content["Name"] = name.into();
        if self.call("CreateSecret", &content) != 200 {
            content["SecretId"] = content["Name"].take();
            content.as_object_mut().unwrap().remove("Name");
            assert_eq!(self.call("PutSecretValue", &content), 200);
        }
    }

    /// The status of its answer to one call.
    fn call(&self, operation: &str, content: &Value) -> u16 {
        let target = format!("secretsmanager.{operation}");
        self.send_json("secretsmanager", &target, content).0
    }

    /// Its answer to an operation of a JSON protocol: the status and what it says.
    pub(crate) fn send_json(&self, service: &str, target: &str, content: &Value) -> (u16, String) {
        let headers =
            format!("X-Amz-Target: {target}\r\nContent-Type: application/x-amz-json-1.1\r\n");
        self.send(service, "POST /", &headers, &content.to_string())
    }

    /// Its answer to a request: the status and what it says.
    pub(crate) fn send(
        &self,
        service: &str,
        request: &str,
        headers: &str,
        body: &str,
    ) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260101/{REGION}/{service}/aws4_request, \
             SignedHeaders=host, Signature=none\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len(),
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// Kills it outright.
    pub(crate) fn sigkill(&mut self) {
        self.process.sigkill();
    }
}

// === IMDSv2 ===

/// The metadata service of an instance whose role is [`S3`]'s one user.
pub(crate) struct Imds {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Imds {
    /// That of one in zone c.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((address::unused(), 80)).unwrap();
        Self::serve(listener, "ap-northeast-1c", Ipv4Addr::new(10, 2, 2, 10))
    }

    /// That of one in this zone with this address.
    pub(crate) fn serve(listener: TcpListener, zone: &'static str, address: Ipv4Addr) -> Self {
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let imds = Self { address: listener.local_addr().unwrap(), heard: Arc::clone(&heard) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let heard = Arc::clone(&heard);
                thread::spawn(move || answer(&stream, &heard, zone, address));
            }
        });
        imds
    }

    /// The requests so far: method and path.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

fn answer(
    mut stream: &TcpStream,
    heard: &Mutex<Vec<String>>,
    zone: &str,
    address: Ipv4Addr,
) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next()?.ok()?;
    let headers: Vec<String> =
        lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let (method_and_path, _) = request.rsplit_once(' ')?;
    heard.lock().unwrap().push(method_and_path.into());
    let header = |name: &str| {
        let header = headers.iter().find_map(|line| {
            line.split_once(": ").filter(|(found, _)| found.eq_ignore_ascii_case(name))
        });
        header.map(|(_, value)| value.to_owned())
    };
    let is_known = header("x-aws-ec2-metadata-token").as_deref() == Some(TOKEN);
    let role = json!({
        "Code": "Success", "LastUpdated": "2026-01-01T00:00:00Z", "Type": "AWS-HMAC",
        "AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "Token": "a-session-token",
        "Expiration": "2099-01-01T00:00:00Z",
    })
    .to_string();
    let address = address.to_string();
    let (status, body) = match method_and_path {
        "PUT /latest/api/token" if header("x-aws-ec2-metadata-token-ttl-seconds").is_some() => {
            (200, TOKEN)
        }
        _ if !is_known => (401, ""),
        "GET /latest/meta-data/local-ipv4" => (200, &*address),
        "GET /latest/meta-data/placement/availability-zone" => (200, zone),
        "GET /latest/meta-data/placement/region" => (200, REGION),
        "GET /latest/meta-data/iam/security-credentials/" => (200, "gateway"),
        "GET /latest/meta-data/iam/security-credentials/gateway" => (200, &*role),
        _ => (404, ""),
    };
    let ttl = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 21600\r\n";
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} -\r\n{ttl}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .ok()
}

/// The names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// A directory and the one below it, which the FTP user starts in.
pub(crate) fn directories(base: &TempDir, name: &str) -> (PathBuf, PathBuf) {
    let bucket = base.path().join(name);
    let home = bucket.join("home/probe");
    fs::create_dir_all(&home).unwrap();
    (bucket, home)
}
