//! TLS on data connections: both handshakes, and whether the client's is good enough.

use std::future::pending;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::info;

use super::data_connection::DataConnection;
use super::relay::broken;
use crate::ftp::Direction;
use crate::ftp::dialogue::DataFailure;
use crate::tls::{self, SessionTls, Tls, UpstreamTls};

/// What a client's data connection must be protected by (PROT P).
#[derive(Debug, Clone)]
pub(super) struct Protection {
    pub(super) tls: SessionTls,
    /// It must resume the session of its control connection: with ports that all know, whoever
    /// comes from the client's address could be anybody behind the same NAT.
    pub(super) require_resumption: bool,
    /// How long the handshakes may take.
    pub(super) handshake: Duration,
}

/// What a client's handshake was, for metrics: its version, and whether it was resumed.
pub(super) type Handshake = (&'static str, bool);

impl Protection {
    /// One connection. A client that only sends need not read, and one that closes with tickets
    /// unread resets what it has sent: uploads get none.
    fn connection(&self, direction: Direction) -> Result<Tls, rustls::Error> {
        match direction {
            Direction::Upload => self.tls.connection_without_tickets(),
            Direction::Download | Direction::Listing => self.tls.connection(),
        }
    }
}

/// Shakes hands with the client, as the server that it takes us for, and with the upstream, side by
/// side: neither may wait for what the other sends first. Each within `limit`. What the client's
/// handshake was is put into `seen`.
///
/// # Errors
///
/// Whose fault it was. Both connections are to be dropped then.
pub(super) async fn shake_hands(
    (client, protection): (&mut DataConnection, Option<&Protection>),
    (upstream, upstream_tls): (&mut DataConnection, Option<&UpstreamTls>),
    direction: Direction,
    limit: Duration,
    seen: &OnceLock<Handshake>,
) -> Result<(), DataFailure> {
    let client_tls = protection.map(|protection| protection.connection(direction)).transpose();
    client.tls = client_tls.map_err(|error| upstreams_fault(io::Error::other(error)))?;
    let tls = upstream_tls.map(UpstreamTls::connection).transpose();
    upstream.tls = tls.map_err(|error| upstreams_fault(io::Error::other(error)))?;

    let shaken = async {
        tokio::try_join!(
            async {
                let must_resume = protection.is_some_and(|it| it.require_resumption);
                shake(&client.stream, &mut client.tls, must_resume, limit)
                    .await
                    .map_err(clients_fault)
            },
            async {
                shake(&upstream.stream, &mut upstream.tls, false, limit)
                    .await
                    .map_err(upstreams_fault)
            },
        )
    };
    tokio::select! {
        biased;
        result = shaken => result.map(|_| ())?,
        error = lost(&client.stream) => return Err(clients_fault(error)),
        error = lost(&upstream.stream) => return Err(upstreams_fault(error)),
    }
    if let Some(tls) = &client.tls {
        let _ = seen.set((tls.version(), tls.is_resumed()));
    }
    Ok(())
}

async fn shake(
    stream: &TcpStream,
    tls: &mut Option<Tls>,
    must_resume: bool,
    limit: Duration,
) -> io::Result<()> {
    let Some(tls) = tls else { return Ok(()) };
    let shaken = async {
        match must_resume {
            true => tls::handshake_resumed(stream, tls).await,
            false => tls::handshake(stream, tls).await,
        }
    };
    timeout(limit, shaken).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Resolves when the connection breaks. A reset after its FIN takes nothing away.
async fn lost(stream: &TcpStream) -> io::Error {
    match broken(stream).await {
        error if error.kind() == io::ErrorKind::BrokenPipe => pending().await,
        error => error,
    }
}

fn clients_fault(error: io::Error) -> DataFailure {
    if error.kind() == io::ErrorKind::PermissionDenied {
        info!("the client's data connection does not resume its control connection's TLS session");
        return DataFailure::NotResumed;
    }
    info!(%error, "no TLS with the client on its data connection");
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::TimedOut => {
            DataFailure::NoTls
        }
        _ => DataFailure::Client,
    }
}

fn upstreams_fault(error: io::Error) -> DataFailure {
    info!(%error, "no TLS with the upstream on its data connection");
    DataFailure::Upstream
}
