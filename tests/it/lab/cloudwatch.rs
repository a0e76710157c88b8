//! CloudWatch as far as gateways talk to it: PutMetricData in rpc-v2 CBOR, which moto 5.2.5 answers
//! with 404; and alarms the way Route 53 judges by them, from the data and not from their state.
//!
//! Time is scaled: [`MINUTE`] stands for the minute of a metric of standard resolution.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use serde_json::Value;
use tokio_util::sync::DropGuard;

use super::cbor;
use super::http::serve;
use super::network::Host;

/// Its port.
pub(crate) const PORT: u16 = 5001;
/// What a minute lasts here.
pub(crate) const MINUTE: Duration = Duration::from_secs(2);
/// Where smithy's rpc-v2 puts the operation.
const PATH: &str = "/service/GraniteServiceVersion20100801/operation/PutMetricData";

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
#[derive(Debug, Clone)]
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

#[derive(Debug, Default)]
struct Store {
    data: Mutex<Vec<Datum>>,
    unavailable: AtomicBool,
}

impl CloudWatch {
    pub(crate) fn start(host: &Host) -> Self {
        let store = Arc::<Store>::default();
        let router = Router::new().route(PATH, post(put)).with_state(Arc::clone(&store));
        Self { store, _running: Arc::new(serve(host.tcp(PORT), router)) }
    }

    /// Answers 503 from now on, or no longer.
    pub(crate) fn fail(&self, unavailable: bool) {
        self.store.unavailable.store(unavailable, Ordering::Relaxed);
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

async fn put(State(store): State<Arc<Store>>, body: Bytes) -> Response {
    let (status, body) = match cbor::read(&body).and_then(|request| read(&request)) {
        _ if store.unavailable.load(Ordering::Relaxed) => {
            (StatusCode::SERVICE_UNAVAILABLE, Vec::new())
        }
        Some(read) => {
            store.data.lock().unwrap().extend(read);
            (StatusCode::OK, vec![0xbf, 0xff])
        }
        None => (StatusCode::BAD_REQUEST, Vec::new()),
    };
    Response::builder()
        .status(status)
        .header("smithy-protocol", "rpc-v2-cbor")
        .header("content-type", "application/cbor")
        .body(Body::from(body))
        .unwrap()
}

fn read(request: &Value) -> Option<Vec<Datum>> {
    let text = |value: &Value, key: &str| value[key].as_str().map(str::to_owned);
    let namespace = text(request, "Namespace")?;
    let data = request["MetricData"].as_array()?.iter().map(|datum| {
        let dimensions = datum["Dimensions"].as_array().map_or(&[][..], Vec::as_slice).iter();
        let dimensions = dimensions.map(|pair| Some((text(pair, "Name")?, text(pair, "Value")?)));
        // One value, or the least of a set of them.
        let value = datum["Value"].as_f64().or_else(|| {
            let least = datum["StatisticValues"]["Minimum"].as_f64();
            let values = datum["Values"].as_array().into_iter().flatten();
            least.or_else(|| values.filter_map(Value::as_f64).reduce(f64::min))
        });
        Some(Datum {
            at: Instant::now(),
            timestamp: datum["Timestamp"].as_f64(),
            namespace: namespace.clone(),
            metric: text(datum, "MetricName")?,
            dimensions: dimensions.collect::<Option<_>>()?,
            value: value?,
        })
    });
    data.collect()
}
