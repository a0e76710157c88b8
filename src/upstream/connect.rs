//! One attempt to reach one endpoint: connect, read its banner, and have it encrypt what follows if
//! that is wanted (RFC 4217: AUTH TLS, PBSZ 0, PROT P; or TLS from the first byte).

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::source::is_exhausted;
use crate::ftp::Reply;
use crate::ftp::reply::Replies;
use crate::observe::log::one_line;
use crate::observe::metrics::ConnectResult;
use crate::outbound::{self, Wire, WireError};
use crate::tls::{Tls, UpstreamTls, explain};

/// How much of an endpoint's own words is told, in characters.
const WORDS: usize = 120;
/// An endpoint that begins with TLS says nothing before the client has.
const MUTE: &str = "if it begins with TLS (port 990), write upstream.tls.mode = \"implicit\"";

/// How long each part of an attempt may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connect: Duration,
    /// For the banner, and again for what is said about TLS.
    pub(super) banner: Duration,
    pub(super) handshake: Duration,
    pub(super) reply_size: usize,
    /// When the client has waited long enough for all attempts together.
    pub(super) deadline: Instant,
}

/// An endpoint that has said 220.
#[derive(Debug)]
pub(super) struct Greeted {
    pub(super) stream: TcpStream,
    pub(super) replies: Replies,
    pub(super) banner: Reply,
    pub(super) tls: Option<UpstreamLink>,
}

/// The TLS of an upstream session, of which PROT P has been said.
#[derive(Debug)]
pub struct UpstreamLink {
    /// That of the control connection.
    pub control: Tls,
    /// By which the data connections are made.
    pub data: UpstreamTls,
}

/// Why an attempt failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) result: ConnectResult,
    /// More of it, for the operator.
    pub(super) why: Option<String>,
}

/// Connects from `source`, reads the banner, and begins TLS if there is `tls`: an endpoint without
/// it has failed, however well it speaks FTP.
pub(super) async fn greet(
    address: SocketAddr,
    source: Option<IpAddr>,
    tls: Option<UpstreamTls>,
    limits: Limits,
) -> Result<Greeted, Failure> {
    let stream =
        match timeout_at(limits.until(limits.connect), outbound::connect(address, source)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                debug!(endpoint = %address, ?source, %error, "connect failed");
                return Err(match is_exhausted(&error) {
                    true => ConnectResult::NoPort,
                    false => ConnectResult::ConnectError,
                }
                .into());
            }
            Err(_) => return Err(ConnectResult::ConnectTimeout.into()),
        };
    let mut wire = Wire::new(stream, limits.reply_size);
    let banner = match &tls {
        None => wait_for_banner(&mut wire, limits).await?,
        Some(tls) if tls.is_implicit() => {
            begin(&mut wire, tls, limits).await?;
            let banner = wait_for_banner(&mut wire, limits).await?;
            protect(&mut wire, limits).await?;
            banner
        }
        Some(tls) => {
            let banner =
                wait_for_banner(&mut wire, limits).await.map_err(|failure| {
                    match failure.result {
                        ConnectResult::BannerTimeout => failure.because(MUTE),
                        _ => failure,
                    }
                })?;
            ask_for_tls(&mut wire, limits).await?;
            begin(&mut wire, tls, limits).await?;
            protect(&mut wire, limits).await?;
            banner
        }
    };
    let Wire { stream, replies, tls: control } = wire;
    let tls = control.zip(tls).map(|(control, data)| UpstreamLink { control, data });
    Ok(Greeted { stream, replies, banner, tls })
}

/// RFC 959 5.4 lets a 120 come before the banner.
async fn wait_for_banner(wire: &mut Wire, limits: Limits) -> Result<Reply, Failure> {
    let encrypted = wire.tls.is_some();
    let deadline = limits.until(limits.banner);
    loop {
        match timeout_at(deadline, wire.reply()).await {
            Ok(Ok(reply)) if reply.is_preliminary() => {}
            Ok(Ok(banner)) if banner.is_positive() => return Ok(banner),
            Ok(Ok(_)) => return Err(ConnectResult::Refused.into()),
            // TLS 1.3: what the server has against the client comes only now.
            Ok(Err(error @ WireError::Tls(_))) if encrypted => {
                return Err(Failure::from(ConnectResult::TlsError).because(&error.to_string()));
            }
            Ok(Err(_)) => return Err(ConnectResult::BannerError.into()),
            Err(_) => return Err(ConnectResult::BannerTimeout.into()),
        }
    }
}

async fn ask_for_tls(wire: &mut Wire, limits: Limits) -> Result<(), Failure> {
    let deadline = limits.until(limits.banner);
    let refused = Failure::from(ConnectResult::TlsRefused);
    match timeout_at(deadline, wire.command("AUTH TLS\r\n")).await {
        Ok(Ok(reply)) if reply.code() == 234 => Ok(()),
        Ok(Ok(reply)) => Err(refused.because(&format!(
            "it answers AUTH TLS by \"{}\": set TLS up there; without it nobody is sent there, unless upstream.tls.mode is \"off\"",
            words(&reply)
        ))),
        Ok(Err(error)) => Err(refused.because(&format!("at AUTH TLS {error}"))),
        Err(_) => Err(refused.because("it does not answer AUTH TLS")),
    }
}

async fn begin(wire: &mut Wire, tls: &UpstreamTls, limits: Limits) -> Result<(), Failure> {
    match timeout_at(limits.until(limits.handshake), wire.begin(tls)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(WireError::Injected)) => Err(Failure::from(ConnectResult::TlsInjected).because(
            "it sent plain text behind its 234: someone on the way may want it to be taken for the server's, or the server is broken",
        )),
        Ok(Err(WireError::Tls(error))) => {
            let result = match error {
                rustls::Error::InvalidCertificate(_) => ConnectResult::TlsCertificate,
                _ => ConnectResult::TlsError,
            };
            Err(Failure::from(result).because(&explain(&error, &tls.name())))
        }
        Ok(Err(error)) => Err(Failure::from(ConnectResult::TlsError)
            .because(&format!("in the handshake: {error}"))),
        Err(_) => Err(Failure::from(ConnectResult::TlsTimeout).because(
            "the handshake is not done in time: see timeouts.tls_handshake and upstream.tls.mode",
        )),
    }
}

/// Has data connections encrypted. RFC 4217 9: PROT needs PBSZ before it, also in implicit mode.
async fn protect(wire: &mut Wire, limits: Limits) -> Result<(), Failure> {
    let deadline = limits.until(limits.banner);
    for command in ["PBSZ 0", "PROT P"] {
        match timeout_at(deadline, wire.command(&format!("{command}\r\n"))).await {
            Ok(Ok(reply)) if reply.is_positive() => {}
            Ok(Ok(reply)) => {
                return Err(Failure::from(ConnectResult::TlsUnprotected).because(&format!(
                    "it answers {command} by \"{}\": let it encrypt data connections; files are not sent in plain text while upstream.tls is on",
                    words(&reply)
                )));
            }
            // TLS 1.3: what the server has against the client comes only now.
            Ok(Err(error)) => {
                return Err(Failure::from(ConnectResult::TlsError)
                    .because(&format!("right after the handshake: {error}")));
            }
            Err(_) => {
                return Err(Failure::from(ConnectResult::TlsTimeout)
                    .because(&format!("it does not answer {command}")));
            }
        }
    }
    Ok(())
}

fn words(reply: &Reply) -> String {
    let text = String::from_utf8_lossy(reply.bytes());
    let line = text.lines().next().unwrap_or_default().trim_end();
    one_line(line).chars().take(WORDS).collect()
}

// === impl Limits, Failure ===

impl Limits {
    fn until(&self, limit: Duration) -> Instant {
        self.deadline.min(Instant::now() + limit)
    }
}

impl Failure {
    fn because(self, why: &str) -> Self {
        Self { why: Some(why.into()), ..self }
    }
}

impl From<ConnectResult> for Failure {
    fn from(result: ConnectResult) -> Self {
        Self { result, why: None }
    }
}
