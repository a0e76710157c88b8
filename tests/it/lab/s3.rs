//! S3 with conditional writes behind one mutex, which loses, delays and refuses requests on demand,
//! for one caller or for all, and keeps a record of every write.

use std::collections::HashMap;
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::sleep;
use tokio_util::sync::DropGuard;

use super::http::serve;
use super::network::Host;
use crate::harness::PATIENCE;

/// Its port.
pub(crate) const PORT: u16 = 9000;

/// How S3 fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing arrives, and no answer comes.
    Cut,
    /// Everything arrives and is done, and no answer comes.
    LoseReplies,
    /// It arrives that much later, also if the caller has long given up.
    Delay(Duration),
    /// Every write is answered 409, as if another were being made.
    Conflict,
    /// 503.
    Unavailable,
}

/// A write that was done.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) at: Instant,
    pub(crate) caller: IpAddr,
    /// What was written; null if it was no JSON.
    pub(crate) body: Value,
}

impl Write {
    /// Who holds the lease by it, and for the how-many-th time.
    pub(crate) fn holder(&self) -> (u64, String) {
        let holder = self.body["holder"].as_str().unwrap_or_default();
        (self.body["generation"].as_u64().unwrap_or_default(), holder.into())
    }
}

/// The running server.
pub(crate) struct S3 {
    shared: Arc<Mutex<Shared>>,
    _running: DropGuard,
}

#[derive(Debug, Default)]
struct Shared {
    /// ETag and content by path.
    objects: HashMap<String, (String, Bytes)>,
    writes: Vec<Write>,
    /// The only path that may be written, if there is one.
    only: Option<String>,
    for_all: Option<Fault>,
    by_caller: HashMap<IpAddr, Fault>,
}

impl S3 {
    pub(crate) fn start(host: &Host) -> Self {
        let shared = Arc::<Mutex<Shared>>::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        Self { shared, _running: serve(host.tcp(PORT), router) }
    }

    /// Has an object there that nobody needs to write.
    pub(crate) fn put(&self, path: &str, content: Vec<u8>) {
        let (etag, content) = (etag(&content), content.into());
        self.shared.lock().unwrap().objects.insert(path.into(), (etag, content));
    }

    /// Denies from now on what is about any other bucket and key, but for reading.
    pub(crate) fn permit(&self, bucket: &str, key: &str) {
        self.shared.lock().unwrap().only = Some(format!("/{bucket}/{key}"));
    }

    /// Fails so for everybody who has no fault of their own, or no longer.
    pub(crate) fn fail(&self, fault: Option<Fault>) {
        self.shared.lock().unwrap().for_all = fault;
    }

    /// Fails so for one caller, or no longer.
    pub(crate) fn fail_for(&self, caller: impl Into<IpAddr>, fault: Option<Fault>) {
        let by_caller = &mut self.shared.lock().unwrap().by_caller;
        match fault {
            Some(fault) => by_caller.insert(caller.into(), fault),
            None => by_caller.remove(&caller.into()),
        };
    }

    /// The writes that were done, in order.
    pub(crate) fn writes(&self) -> Vec<Write> {
        self.shared.lock().unwrap().writes.clone()
    }

    /// The holders of the lease, one after the other; every one but the first took it over.
    pub(crate) fn holders(&self) -> Vec<(u64, String)> {
        let mut holders: Vec<_> = self.writes().iter().map(Write::holder).collect();
        holders.dedup();
        holders
    }
}

async fn answer(
    State(shared): State<Arc<Mutex<Shared>>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let caller = from.ip();
    let fault = {
        let shared = shared.lock().unwrap();
        shared.by_caller.get(&caller).copied().or(shared.for_all)
    };
    let writes = matches!(method, Method::PUT | Method::DELETE);
    let apply = move |shared: &Mutex<Shared>| {
        shared.lock().unwrap().apply(caller, &method, uri.path(), &headers, &body)
    };
    match fault {
        None => apply(&shared),
        // The connection ends when the caller gives up.
        Some(Fault::Cut) => pending().await,
        Some(Fault::LoseReplies) => {
            apply(&shared);
            pending().await
        }
        Some(Fault::Delay(delay)) => {
            // A task of its own goes on when the caller has gone.
            let late = tokio::spawn(async move {
                sleep(delay.min(PATIENCE)).await;
                apply(&shared)
            });
            late.await.unwrap()
        }
        Some(Fault::Conflict) if writes => {
            error(StatusCode::CONFLICT, "ConditionalRequestConflict")
        }
        Some(Fault::Conflict) => apply(&shared),
        Some(Fault::Unavailable) => error(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
    }
}

impl Shared {
    fn apply(
        &mut self,
        caller: IpAddr,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Response {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let found = self.objects.get(path);
        let failed = match (header("if-match"), header("if-none-match"), found) {
            (Some(_), _, None) => Some(error(StatusCode::NOT_FOUND, "NoSuchKey")),
            (Some(expected), _, Some((etag, _))) if expected != etag => Some(failed()),
            (_, Some("*"), Some(_)) if *method == Method::PUT => Some(failed()),
            _ => None,
        };
        let reads = matches!(*method, Method::GET | Method::HEAD);
        if !reads && self.only.as_ref().is_some_and(|only| only != path) {
            return error(StatusCode::FORBIDDEN, "AccessDenied");
        }
        if let Some(failed) = failed {
            return failed;
        }
        match (method, found) {
            (&Method::GET | &Method::HEAD, None) => error(StatusCode::NOT_FOUND, "NoSuchKey"),
            (&Method::GET | &Method::HEAD, Some((etag, content))) => {
                let content = if method == Method::GET { content.clone() } else { Bytes::new() };
                respond(StatusCode::OK, Some(etag), content)
            }
            (&Method::PUT, _) => {
                assert!(header("content-encoding").is_none(), "only plain bodies: {headers:?}");
                let etag = etag(body);
                let content = serde_json::from_slice(body).unwrap_or_default();
                self.objects.insert(path.into(), (etag.clone(), body.clone()));
                self.writes.push(Write { at: Instant::now(), caller, body: content });
                respond(StatusCode::OK, Some(&etag), Bytes::new())
            }
            (&Method::DELETE, _) => {
                self.objects.remove(path);
                respond(StatusCode::NO_CONTENT, None, Bytes::new())
            }
            _ => error(StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
        }
    }
}

/// A hash of the content, as S3's is: equal contents have equal ones.
fn etag(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    let hash: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hash}\"")
}

fn failed() -> Response {
    error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed")
}

fn error(status: StatusCode, code: &str) -> Response {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>{code}</Message><RequestId>0</RequestId></Error>"
    );
    respond(status, None, xml.into())
}

fn respond(status: StatusCode, etag: Option<&str>, body: Bytes) -> Response {
    let mut response = Response::builder()
        .status(status)
        .header("x-amz-request-id", "0")
        .header("content-type", "application/xml");
    if let Some(etag) = etag {
        response = response.header("etag", etag);
    }
    response.body(Body::from(body)).unwrap()
}
