//! An embedded FTP server that plays one endpoint of the service behind the gateways.

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use libunftp::{Server, ServerBuilder, ServerError};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use unftp_core::auth::{AuthenticationError, Authenticator, Credentials, DefaultUser, Principal};
use unftp_sbe_fs::Filesystem;

use super::{PASSWORD, USER};

/// The ports it announces for data: outside Linux's ephemeral range, which starts at 32768, so
/// that no connection of this machine sits on one by chance.
pub(super) const PASSIVE_PORTS: RangeInclusive<u16> = 20_000..=20_999;

/// A server on a runtime of its own, so that killing it takes everything with it at once, also
/// what libunftp has spawned for its sessions, as when a machine dies.
#[derive(Debug)]
pub(super) struct Endpoint {
    address: SocketAddr,
    /// Control connections accepted so far.
    sessions: Arc<AtomicUsize>,
    /// `None` once it has been killed.
    runtime: Option<Runtime>,
}

impl Endpoint {
    /// Serves `directory` on `address`; clients are greeted with `220 <greeting>`.
    pub(super) fn start(
        address: SocketAddr,
        greeting: &'static str,
        directory: &Path,
    ) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(greeting)
            .enable_all()
            .build()?;
        let listener = {
            let _context = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let sessions = Arc::new(AtomicUsize::new(0));
        runtime.spawn(accept(listener, greeting, directory.to_owned(), Arc::clone(&sessions)));
        Ok(Self { address, sessions, runtime: Some(runtime) })
    }

    /// Where its control port is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many control connections it has accepted since its start.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Closes its listener and every connection; when this returns, nobody is at its address.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(runtime) = self.runtime.take() {
            let wait = || runtime.shutdown_timeout(Duration::from_secs(5));
            tokio::task::spawn_blocking(wait).await?;
        }
        Ok(())
    }
}

impl Drop for Endpoint {
    /// Without waiting: a runtime may not block in an async context.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(
    listener: TcpListener,
    greeting: &'static str,
    directory: PathBuf,
    sessions: Arc<AtomicUsize>,
) {
    loop {
        match listener.accept().await {
            Ok((control, _)) => {
                // libunftp writes 150 and 226 apart; a client that delays its ACK would pay 40 ms.
                if let Err(error) = control.set_nodelay(true) {
                    tracing::warn!(%error, "the embedded endpoint could not set TCP_NODELAY");
                }
                sessions.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(control, greeting, directory.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "the embedded endpoint could not accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One session: libunftp uses up a server for each stream that it is handed.
async fn serve(control: TcpStream, greeting: &'static str, directory: PathBuf) {
    let served = match server(greeting, directory) {
        Ok(server) => server.service(control).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = served {
        tracing::warn!(error, "the embedded endpoint could not serve a session");
    }
}

/// In libunftp's default mode, one listener for each PASV: its pooled mode refuses EPSV.
fn server(
    greeting: &'static str,
    directory: PathBuf,
) -> Result<Server<Filesystem, DefaultUser>, ServerError> {
    #[expect(clippy::expect_used, reason = "a session without its directory can only end")]
    let storage = move || Filesystem::new(directory.clone()).expect("the demo's directory");
    ServerBuilder::with_authenticator(Box::new(storage), Arc::new(OneUser))
        .greeting(greeting)
        .passive_ports(PASSIVE_PORTS)
        .build()
}

/// Knows the demo's one user.
#[derive(Debug)]
struct OneUser;

#[async_trait]
impl Authenticator for OneUser {
    async fn authenticate(
        &self,
        username: &str,
        credentials: &Credentials,
    ) -> Result<Principal, AuthenticationError> {
        match (username, credentials.password.as_deref()) {
            (USER, Some(PASSWORD)) => Ok(Principal { username: username.to_owned() }),
            (USER, _) => Err(AuthenticationError::BadPassword),
            _ => Err(AuthenticationError::BadUser),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_killed_endpoint_takes_its_sessions_with_it_and_leaves_nobody_at_its_address() {
        let directory = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 5, 1], 0));
        let mut endpoint = Endpoint::start(address, "Hello.", directory.path()).unwrap();
        let mut session = TcpStream::connect(endpoint.address()).await.unwrap();
        let mut greeting = [0; 12];
        session.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"220 Hello.\r\n");
        assert_eq!(endpoint.sessions(), 1);

        endpoint.kill().await.unwrap();

        assert!(matches!(session.read(&mut greeting).await, Ok(0) | Err(_)));
        let error = TcpStream::connect(endpoint.address()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
