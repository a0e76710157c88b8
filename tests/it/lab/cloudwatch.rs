//! CloudWatch as far as gateways talk to it: PutMetricData, which moto takes unless it is told to
//! fail; and alarms the way Route 53 judges by them, from the data and not from their state.
//!
//! Time is scaled: [`MINUTE`] stands for the minute of a metric of standard resolution.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use tokio::sync::RwLock;
use tokio::task::spawn_blocking;
use tokio_util::sync::DropGuard;

use super::http::serve;
use super::moto;
use super::network::Host;

/// Its port.
pub(crate) const PORT: u16 = 5001;
/// What a minute lasts here.
pub(crate) const MINUTE: Duration = Duration::from_secs(4);

/// A value that was reported.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Datum {
    /// When it arrived.
    pub(crate) at: Instant,
    /// When it was so, by the sender's word, if it says so: seconds since 1970.
    pub(crate) timestamp: Option<f64>,
    pub(crate) namespace: String,
    pub(crate) metric: String,
    pub(crate) dimensions: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// An alarm: "minimum < threshold" in all of the last periods of a minute; missing data breaches
/// (InsufficientDataHealthStatus is Unhealthy).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Alarm {
    pub(crate) namespace: String,
    pub(crate) metric: String,
    /// All of them, and no others.
    pub(crate) dimensions: BTreeMap<String, String>,
    pub(crate) threshold: f64,
    pub(crate) periods: u32,
}

/// The running server; clones are the same one.
#[derive(Clone)]
pub(crate) struct CloudWatch {
    store: Arc<Store>,
    _running: Arc<DropGuard>,
}

struct Store {
    /// Where moto is.
    host: Host,
    data: Mutex<Vec<Datum>>,
    /// Held by each report while it is on its way to moto.
    unavailable: RwLock<bool>,
}

impl CloudWatch {
    pub(crate) fn start(host: &Host) -> Self {
        let (data, unavailable) = (Mutex::default(), RwLock::new(false));
        let store = Arc::new(Store { host: host.clone(), data, unavailable });
        let router = Router::new().route("/", post(put)).with_state(Arc::clone(&store));
        Self { store, _running: Arc::new(serve(host.tcp(PORT), router)) }
    }

    /// Answers 503 from now on, or no longer. What was on its way has arrived when this returns.
    pub(crate) fn fail(&self, unavailable: bool) {
        *self.store.unavailable.blocking_write() = unavailable;
    }

    /// Everything reported so far.
    pub(crate) fn data(&self) -> Vec<Datum> {
        self.store.data.lock().unwrap().clone()
    }

    /// Whether a health check on that alarm is healthy now.
    pub(crate) fn is_healthy(&self, alarm: &Alarm) -> bool {
        let now = Instant::now();
        let data = self.store.data.lock().unwrap();
        let recent = data.iter().rev().take_while(|datum| now - datum.at < MINUTE * alarm.periods);
        let recent: Vec<&Datum> = recent
            .filter(|datum| {
                datum.namespace == alarm.namespace
                    && datum.metric == alarm.metric
                    && datum.dimensions == alarm.dimensions
            })
            .collect();
        (0..alarm.periods).any(|period| {
            let is_in = |datum: &&&Datum| {
                let age = now - datum.at;
                (MINUTE * period..MINUTE * (period + 1)).contains(&age)
            };
            let values = recent.iter().filter(is_in).map(|datum| datum.value);
            values.reduce(f64::min).is_some_and(|minimum| minimum >= alarm.threshold)
        })
    }
}

async fn put(
    State(store): State<Arc<Store>>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, String) {
    let unavailable = store.unavailable.read().await;
    if *unavailable {
        return (StatusCode::SERVICE_UNAVAILABLE, String::new());
    }
    let signature = headers[AUTHORIZATION].to_str().unwrap().to_owned();
    let (of_store, form) = (Arc::clone(&store), body.clone());
    let ask = move || of_store.host.inside(|| moto::pass_on_form(&signature, &form));
    // It may have been killed.
    let Ok(answer) = spawn_blocking(ask).await.unwrap() else {
        return (StatusCode::BAD_GATEWAY, String::new());
    };
    if answer.status == 200 {
        let read = read(&body).unwrap_or_else(|| panic!("moto took this: {body}"));
        store.data.lock().unwrap().extend(read);
    }
    (StatusCode::from_u16(answer.status).unwrap(), answer.body)
}

fn read(form: &str) -> Option<Vec<Datum>> {
    let decode = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let fields = form.split('&').filter_map(|field| field.split_once('='));
    let fields: BTreeMap<_, _> =
        fields.map(|(name, value)| (decode(name), decode(value))).collect();
    let is_there = |name: &str| fields.contains_key(name);
    let data = (1..).map(|number| format!("MetricData.member.{number}"));
    let data = data.take_while(|datum| is_there(&format!("{datum}.MetricName"))).map(|datum| {
        let field = |name: &str| fields.get(&format!("{datum}.{name}"));
        let dimensions = (1..).map_while(|number| {
            let part = |name| field(&format!("Dimensions.member.{number}.{name}")).cloned();
            Some((part("Name")?, part("Value")?))
        });
        let timestamp = field("Timestamp").and_then(|time| humantime::parse_rfc3339(time).ok());
        let since = timestamp.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Some(Datum {
            at: Instant::now(),
            timestamp: since.map(|since| since.as_secs_f64()),
            namespace: fields.get("Namespace")?.clone(),
            metric: field("MetricName")?.clone(),
            dimensions: dimensions.collect(),
            value: field("Value")?.parse().ok()?,
        })
    });
    data.collect()
}
