//! The stages after the banner that speak FTP, by suppaftp. Nothing else names a type of it, and
//! the demo.
//!
//! suppaftp holds at most 256 KiB of a reply; listings are read here and thrown away. It logs
//! passwords through the `log` crate at its trace level, which this program gives no output to.

use std::time::Duration;

use suppaftp::tokio::{
    AsyncRustlsConnector, AsyncRustlsFtpStream, AsyncRustlsStream, TransferStream,
};
use suppaftp::tokio_rustls::TlsConnector;
use suppaftp::types::{FileType, Response};
use suppaftp::{FtpError, FtpResult, Mode, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::{Target, greeting};
use crate::tls::UpstreamTls;

/// How often a transfer is tried again when there is no passive port (425), and after how long.
const PORT_RETRIES: u32 = 3;
const PORT_PAUSE: Duration = Duration::from_millis(100);
/// A listing that is longer is not worth its while every few seconds.
const LISTING_SIZE: usize = 16 * 1024 * 1024;
/// How much of an endpoint's own words goes into a reason, in characters.
const WORDS: usize = 120;

/// A control connection on which the endpoint has said 220.
pub(super) struct Session {
    ftp: AsyncRustlsFtpStream,
    mode: Mode,
}

/// Why there is no login.
pub(super) enum LoginError {
    /// 530: user or password.
    Refused,
    /// Anything else.
    Failed(String),
}

#[derive(Debug, Clone, Copy)]
enum Transfer<'a> {
    List,
    Store(&'a str),
}

impl Session {
    /// Reads the banner, and begins TLS if there is to be some: all as a session does. Data
    /// connections will leave from the same address and go nowhere but to the endpoint itself.
    ///
    /// suppaftp connects by itself for TLS from the first byte: from where the kernel chooses.
    pub(super) async fn greet(stream: TcpStream, target: &Target) -> Result<Self, String> {
        let implicit = target.tls.as_ref().is_some_and(UpstreamTls::is_implicit);
        let ftp = match &target.tls {
            Some(tls) if implicit => {
                drop(stream);
                let (endpoint, name) = (target.endpoint, tls.name());
                let connected =
                    AsyncRustlsFtpStream::connect_secure_implicit(endpoint, connector(tls), &name);
                let mut ftp = connected.await.map_err(told_of_banner)?;
                for command in ["PBSZ 0", "PROT P"] {
                    let said = ftp.custom_command(command, &[Status::CommandOk]).await;
                    said.map_err(|error| format!("{command}: {}", told(error)))?;
                }
                ftp
            }
            tls => {
                greeting::skip_preliminary(&stream).await?;
                let ftp = AsyncRustlsFtpStream::connect_with_stream(stream).await;
                let ftp = ftp.map_err(told_of_banner)?;
                match tls {
                    None => ftp,
                    Some(tls) => {
                        let secured = ftp.into_secure(connector(tls), &tls.name()).await;
                        secured.map_err(|error| match error {
                            error @ FtpError::SecureError(_) => told(error),
                            error => format!("AUTH TLS, PBSZ 0, PROT P: {}", told(error)),
                        })?
                    }
                }
            }
        };
        let source = target.source.filter(|_| !implicit);
        let mut ftp = ftp.passive_stream_builder(move |address| {
            Box::pin(async move {
                let stream = greeting::connect(address, source).await;
                stream.map_err(|reason| {
                    let reason = format!("data port {}: {reason}", address.port());
                    FtpError::ConnectionError(std::io::Error::other(reason))
                })
            })
        });
        // The host in a 227 is not trusted.
        ftp.set_passive_nat_workaround(true);
        ftp.set_mode(Mode::ExtendedPassive);
        Ok(Self { ftp, mode: Mode::ExtendedPassive })
    }

    /// USER and PASS. The endpoint's words on that are kept out of the reason: it may repeat the
    /// password.
    pub(super) async fn log_in(&mut self, user: &str, password: &str) -> Result<(), LoginError> {
        self.ftp.login(user, password).await.map_err(|error| match error {
            FtpError::UnexpectedResponse(reply) => match code(&reply) {
                530 => LoginError::Refused,
                421 => LoginError::Failed("421: it takes no more sessions now".into()),
                code => LoginError::Failed(format!("{code}: it does not let the user in")),
            },
            error => LoginError::Failed(told(error)),
        })
    }

    /// Goes to the directory and reads its listing to the end.
    pub(super) async fn list(&mut self, directory: &str) -> Result<(), String> {
        let cwd = self.ftp.cwd(directory).await;
        cwd.map_err(|error| format!("CWD to probe.directory: {}", told(error)))?;
        let mut listing = self.open(Transfer::List).await.map_err(told)?;
        let mut size = 0;
        loop {
            let mut bytes = [0; 4096];
            match listing.read(&mut bytes).await {
                Ok(0) => break,
                Ok(count) => size += count,
                Err(error) => return Err(format!("the listing broke off: {error}")),
            }
            if size > LISTING_SIZE {
                return Err(format!(
                    "the listing is longer than {} MiB: write a smaller directory into probe.directory",
                    LISTING_SIZE >> 20
                ));
            }
        }
        listing.finish().await.map_err(told)
    }

    /// Stores a file where [`Session::list`] has gone, byte for byte.
    pub(super) async fn store(&mut self, name: &str, content: &[u8]) -> Result<(), String> {
        self.ftp.transfer_type(FileType::Binary).await.map_err(told)?;
        let mut file = self.open(Transfer::Store(name)).await.map_err(told)?;
        let written = file.write_all(content).await;
        written.map_err(|error| format!("the upload broke off: {error}"))?;
        file.finish().await.map_err(told)
    }

    /// Deletes a file that [`Session::store`] has stored.
    pub(super) async fn delete(&mut self, name: &str) -> Result<(), String> {
        self.ftp.rm(name).await.map_err(told)
    }

    /// QUIT, so that the server's log shows an ordinary end.
    pub(super) async fn leave(mut self) {
        let _ = self.ftp.quit().await;
    }

    /// Opens a data connection: by EPSV, or by PASV if the endpoint knows no EPSV.
    async fn open(
        &mut self,
        transfer: Transfer<'_>,
    ) -> FtpResult<TransferStream<AsyncRustlsStream>> {
        let mut retries_left = PORT_RETRIES;
        loop {
            let opened = match transfer {
                Transfer::List => {
                    let expected = [Status::AlreadyOpen, Status::AboutToSend];
                    self.ftp.custom_data_command("LIST", &expected).await.map(|(_, data)| data)
                }
                Transfer::Store(name) => self.ftp.put_with_stream(name).await,
            };
            match opened {
                Err(FtpError::UnexpectedResponse(reply))
                    if code(&reply) == 425 && retries_left > 0 =>
                {
                    retries_left -= 1;
                    sleep(PORT_PAUSE).await;
                }
                Err(FtpError::UnexpectedResponse(reply))
                    if self.mode == Mode::ExtendedPassive
                        && matches!(code(&reply), 500..=504 | 522) =>
                {
                    self.mode = Mode::Passive;
                    self.ftp.set_mode(Mode::Passive);
                }
                outcome => return outcome,
            }
        }
    }
}

/// By which suppaftp makes the control connection and each data connection, which resumes.
fn connector(tls: &UpstreamTls) -> AsyncRustlsConnector {
    TlsConnector::from(tls.config()).into()
}

fn told_of_banner(error: FtpError) -> String {
    match error {
        FtpError::UnexpectedResponse(reply) => greeting::refusal(code(&reply)),
        error => told(error),
    }
}

/// The three digits; suppaftp knows no name for some.
fn code(reply: &Response) -> u16 {
    let digits = reply.body.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

/// What went wrong, for the operator.
fn told(error: FtpError) -> String {
    match error {
        FtpError::UnexpectedResponse(reply) => {
            let line = reply.body.split(|&byte| byte == b'\n').next().unwrap_or_default();
            String::from_utf8_lossy(line).trim_end().chars().take(WORDS).collect()
        }
        FtpError::BadResponse => "it does not speak FTP".into(),
        FtpError::ConnectionError(error) => match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "it closed the connection".into(),
            _ => error.to_string(),
        },
        FtpError::SecureError(reason) => {
            // It has been told in suppaftp's own words before.
            let reason = reason.strip_prefix("Secure error: ").unwrap_or(&reason);
            format!("TLS: {reason}: see upstream.tls")
        }
        error => error.to_string(),
    }
}
