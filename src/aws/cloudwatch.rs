//! Amazon CloudWatch: metrics of our own.

use std::time::{Duration, SystemTime};

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::config::Builder;
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum, StandardUnit};
use tokio::sync::OnceCell;

use super::{ATTEMPTS, AwsError, sdk_config};

const SERVICE: &str = "CloudWatch";
/// `StorageResolution`, in seconds: the standard one, which is all that Route 53 can follow, and
/// the high one.
const STANDARD: i32 = 60;
const HIGH: i32 = 1;

/// CloudWatch; nothing is asked before its first use.
#[derive(Debug)]
pub struct CloudWatch {
    timeout: Duration,
    client: OnceCell<Client>,
}

/// One value of one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Datum {
    /// The metric's name.
    pub name: &'static str,
    /// What is counted.
    pub unit: Unit,
    /// Neither infinite nor NaN, which CloudWatch does not take.
    pub value: f64,
    /// Names and values, which with the name make the metric.
    pub dimensions: Vec<(&'static str, String)>,
    /// When it was so.
    pub at: SystemTime,
    /// Kept by the second; Route 53 cannot follow such a metric.
    pub high_resolution: bool,
}

/// The unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Anything else.
    Count,
}

impl CloudWatch {
    /// Each call is over within `timeout`.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, client: OnceCell::new() }
    }

    /// Adds these values, at most 1000, to the metrics of a namespace (PutMetricData). What is sent
    /// twice counts twice, which happens if an answer is lost.
    ///
    /// # Errors
    ///
    /// [`AwsError`].
    pub async fn put(&self, namespace: &str, data: &[Datum]) -> Result<(), AwsError> {
        let make = || async {
            let config = sdk_config(self.timeout, ATTEMPTS).await?;
            // A few kilobytes a minute are not worth it.
            let config = Builder::from(&config).disable_request_compression(true).build();
            Ok(Client::from_conf(config))
        };
        let client = self.client.get_or_try_init(make).await?;
        let data = data.iter().map(Datum::to_sdk).collect();
        let put = client.put_metric_data().namespace(namespace).set_metric_data(Some(data));
        put.send().await.map(|_| ()).map_err(|error| AwsError::of(SERVICE, &error))
    }
}

impl Datum {
    fn to_sdk(&self) -> MetricDatum {
        let dimensions = self.dimensions.iter();
        let dimensions = dimensions
            .map(|(name, value)| Dimension::builder().name(*name).value(value.as_str()).build());
        MetricDatum::builder()
            .metric_name(self.name)
            .unit(match self.unit {
                Unit::Bytes => StandardUnit::Bytes,
                Unit::Count => StandardUnit::Count,
            })
            .value(self.value)
            .set_dimensions(Some(dimensions.collect()))
            .timestamp(self.at.into())
            .storage_resolution(if self.high_resolution { HIGH } else { STANDARD })
            .build()
    }
}
