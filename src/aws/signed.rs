//! Requests that are signed and sent without an SDK, for services of which two or three operations
//! are needed: their SDKs would double the time that a build takes.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat, SdkBody};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::connection::CaptureSmithyConnection;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorSettings};
use http_body_util::{BodyExt, Limited};
use tokio::sync::{Mutex, OnceCell};
use tokio::time::{sleep, timeout};

use super::endpoint::{Endpoint, Service};
use super::refusal::Refusal;
use super::{AwsError, attempt_timeout, innermost, sdk_config};

/// The most that an answer may be: more than a route table of the highest quota (1000 routes)
/// fills, which is the longest one there is.
const LIMIT: usize = 1024 * 1024;
/// The longest pause before a request is sent again; a random part of it is waited.
const PAUSE: Duration = Duration::from_secs(1);
/// Credentials are asked for again so long before they end.
const MARGIN: Duration = Duration::from_secs(60);
/// A clock that is further from AWS's makes AWS refuse, or soon will.
const SKEW: Duration = Duration::from_secs(4 * 60);
/// How it is told that nothing came.
const NO_ANSWER: &str = "no answer in time";
/// Who asks, as CloudTrail shows it.
const USER_AGENT: &str = concat!("ftpgate/", env!("CARGO_PKG_VERSION"));

/// A service of AWS; nothing is asked before its first use.
#[derive(Debug)]
pub(super) struct Api {
    service: Service,
    timeout: Duration,
    attempts: u32,
    /// On the heap, as a node that does not need this service has it, too.
    caller: OnceCell<Box<Caller>>,
}

/// A request before it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    method: &'static str,
    /// With the query, encoded.
    path: String,
    content_type: Option<&'static str>,
    /// `X-Amz-Target`, the operation, where it is not in the body.
    target: Option<&'static str>,
    body: String,
}

// === impl Api ===

impl Api {
    /// Each operation is over within `timeout`, and sent at most `attempts` times.
    pub(super) fn new(service: Service, timeout: Duration, attempts: u32) -> Self {
        Self { service, timeout, attempts, caller: OnceCell::new() }
    }

    /// What the service answers. What may pass, such as throttling, is tried again, as the SDKs do.
    pub(super) async fn ask(&self, request: &Request) -> Result<Result<String, Refusal>, AwsError> {
        let exchange = async {
            let make = async || {
                let config = sdk_config(self.timeout, self.attempts).await?;
                Caller::new(self.service, &config).map(Box::new)
            };
            let caller = self.caller.get_or_try_init(make).await?;
            let attempt = attempt_timeout(self.timeout, self.attempts);
            let answer = caller.ask(request, self.attempts, attempt).await;
            answer.map_err(|cause| unreachable(self.service, cause))
        };
        let answer = timeout(self.timeout, exchange).await;
        answer.unwrap_or_else(|_| Err(unreachable(self.service, NO_ANSWER.into())))
    }

    /// The error of an answer that nobody can read.
    pub(super) fn nonsense(&self, cause: &dyn std::error::Error) -> AwsError {
        unreachable(self.service, format!("its answer is not to be read: {}", innermost(cause)))
    }
}

fn unreachable(service: Service, cause: String) -> AwsError {
    AwsError::Unreachable { service: service.name, cause }
}

// === impl Request ===

impl Request {
    /// GET, of a path with its query.
    pub(super) fn get(path: String) -> Self {
        Self { method: "GET", path, content_type: None, target: None, body: String::new() }
    }

    /// POST of XML.
    pub(super) fn xml(path: String, body: String) -> Self {
        Self { method: "POST", path, content_type: Some("application/xml"), target: None, body }
    }

    /// POST of a form, as the Query protocols have it.
    pub(super) fn form(body: String) -> Self {
        let content_type = Some("application/x-www-form-urlencoded; charset=utf-8");
        Self { method: "POST", path: "/".into(), content_type, target: None, body }
    }

    /// POST of JSON, as the JSON 1.1 protocol has it; `target` is the operation.
    pub(super) fn json(target: &'static str, body: String) -> Self {
        let content_type = Some("application/x-amz-json-1.1");
        Self { method: "POST", path: "/".into(), content_type, target: Some(target), body }
    }

    #[cfg(test)]
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

// === impl Caller ===

/// Where the service is, and who asks.
#[derive(Debug)]
struct Caller {
    service: Service,
    endpoint: Endpoint,
    provider: SharedCredentialsProvider,
    /// The last ones, used until shortly before their end: another service may have to be asked
    /// for new ones.
    credentials: Mutex<Option<Credentials>>,
    /// How many seconds AWS's clock is ahead of this one, as far as that is known.
    ahead: AtomicI64,
    connector: Connector,
}

impl Caller {
    fn new(service: Service, config: &SdkConfig) -> Result<Self, AwsError> {
        let endpoint = Endpoint::of(service, config).ok_or(AwsError::NoRegion)?;
        let provider = config.credentials_provider();
        let provider = provider.ok_or_else(|| unreachable(service, "no credentials".into()))?;
        let mut settings = HttpConnectorSettings::builder();
        let connect = config.timeout_config().and_then(|timeouts| timeouts.connect_timeout());
        settings.set_connect_timeout(connect);
        let mut connector = Connector::builder().connector_settings(settings.build());
        connector.set_sleep_impl(config.sleep_impl());
        let connector = connector.tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build();
        let (credentials, ahead) = (Mutex::default(), AtomicI64::default());
        Ok(Self { service, endpoint, provider, credentials, ahead, connector })
    }

    /// Asks up to `attempts` times, each time for so long.
    async fn ask(
        &self,
        request: &Request,
        attempts: u32,
        limit: Duration,
    ) -> Result<Result<String, Refusal>, String> {
        let credentials = self.credentials().await?;
        let mut made = 1;
        loop {
            let ahead = self.ahead.load(Ordering::Relaxed);
            let answer = self.send(self.sign(request, &credentials)?, limit).await;
            let learnt = self.ahead.load(Ordering::Relaxed).abs_diff(ahead) > SKEW.as_secs();
            let again = may_pass(&answer) || learnt && matches!(answer, Ok(Err(_)));
            if made >= attempts || !again {
                return answer;
            }
            made += 1;
            sleep(PAUSE.mul_f64(fastrand::f64())).await;
        }
    }

    async fn credentials(&self) -> Result<Credentials, String> {
        let mut kept = self.credentials.lock().await;
        // Those without an end are in a file or in the environment, quickly read.
        let soon = SystemTime::now() + MARGIN;
        let good = kept.as_ref().filter(|kept| kept.expiry().is_some_and(|end| end > soon));
        if let Some(good) = good {
            return Ok(good.clone());
        }
        let new = self.provider.provide_credentials().await.map_err(|error| innermost(&error))?;
        *kept = Some(new.clone());
        Ok(new)
    }

    fn sign(&self, request: &Request, credentials: &Credentials) -> Result<HttpRequest, String> {
        let identity = credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.endpoint.region)
            .name(self.service.prefix)
            .time(self.now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let url = format!("{}{}", self.endpoint.url, request.path);
        let content_type = request.content_type.map(|value| ("content-type", value));
        let target = request.target.map(|value| ("x-amz-target", value));
        let headers = || content_type.into_iter().chain(target);
        let body = SignableBody::Bytes(request.body.as_bytes());
        let signable = SignableRequest::new(request.method, &*url, headers(), body)
            .map_err(|error| innermost(&error))?;
        let signed = sign(signable, &parameters).map_err(|error| innermost(&error))?;
        let mut built = hyper::Request::builder()
            .method(request.method)
            .uri(&*url)
            .header("user-agent", USER_AGENT);
        for (name, value) in headers() {
            built = built.header(name, value);
        }
        let mut built = built.body(SdkBody::from(&*request.body)).map_err(|e| e.to_string())?;
        signed.into_parts().0.apply_to_request_http1x(&mut built);
        built.try_into().map_err(|error| innermost(&error))
    }

    async fn send(
        &self,
        mut request: HttpRequest,
        limit: Duration,
    ) -> Result<Result<String, Refusal>, String> {
        let connection = CaptureSmithyConnection::new();
        request.add_extension(connection.clone());
        let exchange = async {
            let answer = self.connector.call(request).await;
            let answer = answer.map_err(|error| innermost(&error))?;
            self.learn_time(&answer);
            read(self.service, answer).await
        };
        let answer = timeout(limit, exchange).await;
        let answer = answer.unwrap_or_else(|_| Err(NO_ANSWER.into()));
        // It may be broken, or lead to a machine that is.
        if may_pass(&answer)
            && let Some(connection) = connection.get()
        {
            connection.poison();
        }
        answer
    }

    /// The time by AWS's clock.
    fn now(&self) -> SystemTime {
        let (now, ahead) = (SystemTime::now(), self.ahead.load(Ordering::Relaxed));
        let distance = Duration::from_secs(ahead.unsigned_abs());
        let there = if ahead < 0 { now.checked_sub(distance) } else { now.checked_add(distance) };
        there.unwrap_or(now)
    }

    fn learn_time(&self, answer: &HttpResponse) {
        let date = answer.headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        if let Some(date) = date {
            let ahead = date.secs() - DateTime::from(SystemTime::now()).secs();
            self.ahead.store(ahead, Ordering::Relaxed);
        }
    }
}

/// Whether another attempt may get a better answer.
fn may_pass(answer: &Result<Result<String, Refusal>, String>) -> bool {
    match answer {
        Ok(Ok(_)) => false,
        Ok(Err(refusal)) => refusal.may_pass(),
        Err(_) => true,
    }
}

async fn read(service: Service, answer: HttpResponse) -> Result<Result<String, Refusal>, String> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LIMIT).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    let refused = || Refusal::of(service, status.as_u16(), &body);
    Ok(if status.is_success() { Ok(body) } else { Err(refused()) })
}

#[cfg(test)]
mod tests;
