//! One question over HTTP: to the peer, or to a node's admin socket.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// More than any answer of ours has, but a list of sessions.
const LIMIT: usize = 1024 * 1024;

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// The JSON, or null if it is none.
    pub body: Value,
}

/// Nothing that can be understood was answered.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The connection ended, or speaks no HTTP.
    #[error("no answer in HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// The answer is too long, or was cut.
    #[error("the answer did not come whole: {0}")]
    Cut(Box<dyn std::error::Error + Send + Sync>),
    /// No answer came.
    #[error("no answer in time")]
    Silent,
}

/// Sends a request without a body on a fresh connection; the whole answer comes within `limit`.
///
/// # Errors
///
/// [`AskError`]
pub async fn ask<S>(
    stream: S,
    method: Method,
    path: &str,
    limit: Duration,
) -> Result<Answer, AskError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    ask_at_length(stream, method, path, limit, LIMIT).await
}

/// The same where the answer may have up to `most` bytes.
///
/// # Errors
///
/// [`AskError`]
pub async fn ask_at_length<S>(
    stream: S,
    method: Method,
    path: &str,
    limit: Duration,
    most: usize,
) -> Result<Answer, AskError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let exchange = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap_or_default();
        request.headers_mut().insert("host", hyper::header::HeaderValue::from_static("ftpgate"));
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), most).collect().await;
        let body = body.map_err(AskError::Cut)?.to_bytes();
        Ok(Answer { status, body: serde_json::from_slice(&body).unwrap_or_default() })
    };
    timeout(limit, exchange).await.unwrap_or(Err(AskError::Silent))
}
