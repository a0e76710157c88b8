//! Amazon CloudWatch: metrics of our own.

use crate::rfc3339;
use std::time::{Duration, SystemTime};

use aws_smithy_query::{QueryValueWriter, QueryWriter};

use super::endpoint::Service;
use super::refusal::Refusal;
use super::signed::{Api, Request};
use super::{ATTEMPTS, AwsError};

const CLOUDWATCH: Service =
    Service { name: "CloudWatch", prefix: "monitoring", global: false, fips_in_gov: false };
const VERSION: &str = "2010-08-01";
/// `StorageResolution`, in seconds: the standard one, which is all that Route 53 can follow, and
/// the high one.
const STANDARD: &str = "60";
const HIGH: &str = "1";

/// CloudWatch; nothing is asked before its first use.
#[derive(Debug)]
pub struct CloudWatch {
    api: Api,
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
        Self { api: Api::new(CLOUDWATCH, timeout, ATTEMPTS) }
    }

    /// Adds these values, at most 1000 and in all far less than the megabyte that a request may
    /// be, to the metrics of a namespace (PutMetricData). What is sent twice counts twice, which
    /// happens if an answer is lost.
    ///
    /// # Errors
    ///
    /// [`AwsError`].
    pub async fn put(&self, namespace: &str, data: &[Datum]) -> Result<(), AwsError> {
        self.api.ask(&Request::form(form(namespace, data))).await?.map_err(Refusal::into_error)?;
        Ok(())
    }
}

/// The request, in the Query protocol.
fn form(namespace: &str, data: &[Datum]) -> String {
    let mut form = String::new();
    let mut query = QueryWriter::new(&mut form, "PutMetricData", VERSION);
    query.prefix("Namespace").string(namespace);
    let mut list = query.prefix("MetricData").start_list(false, None);
    for datum in data {
        datum.write(list.entry());
    }
    list.finish();
    query.finish();
    form
}

impl Datum {
    fn write(&self, mut member: QueryValueWriter<'_>) {
        member.prefix("MetricName").string(self.name);
        if !self.dimensions.is_empty() {
            let mut dimensions = member.prefix("Dimensions").start_list(false, None);
            for (name, value) in &self.dimensions {
                let mut dimension = dimensions.entry();
                dimension.prefix("Name").string(name);
                dimension.prefix("Value").string(value);
            }
            dimensions.finish();
        }
        let at = rfc3339::text(self.at);
        member.prefix("Timestamp").string(&at);
        member.prefix("Value").string(&self.value.to_string());
        member.prefix("Unit").string(match self.unit {
            Unit::Bytes => "Bytes",
            Unit::Count => "Count",
        });
        let resolution = if self.high_resolution { HIGH } else { STANDARD };
        member.prefix("StorageResolution").string(resolution);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datum() -> Datum {
        Datum {
            name: "HealthyHostCount",
            unit: Unit::Count,
            value: 2.0,
            dimensions: vec![("AvailabilityZone", "ap-northeast-1a".into())],
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_518_568_087_133),
            high_resolution: false,
        }
    }

    /// The API reference's parameters, in the way of its sample requests.
    #[test]
    fn a_request_is_a_form_of_numbered_members() {
        let bytes = Datum {
            name: "ProcessedBytes",
            unit: Unit::Bytes,
            value: 1.5e12,
            dimensions: Vec::new(),
            high_resolution: true,
            ..datum()
        };
        let expected = [
            "Action=PutMetricData",
            "Version=2010-08-01",
            "Namespace=Team%2FFTP%20%26%20more",
            "MetricData.member.1.MetricName=HealthyHostCount",
            "MetricData.member.1.Dimensions.member.1.Name=AvailabilityZone",
            "MetricData.member.1.Dimensions.member.1.Value=ap-northeast-1a",
            "MetricData.member.1.Timestamp=2018-02-14T00%3A28%3A07.133Z",
            "MetricData.member.1.Value=2",
            "MetricData.member.1.Unit=Count",
            "MetricData.member.1.StorageResolution=60",
            "MetricData.member.2.MetricName=ProcessedBytes",
            "MetricData.member.2.Timestamp=2018-02-14T00%3A28%3A07.133Z",
            "MetricData.member.2.Value=1500000000000",
            "MetricData.member.2.Unit=Bytes",
            "MetricData.member.2.StorageResolution=1",
        ];
        assert_eq!(form("Team/FTP & more", &[datum(), bytes]), expected.join("&"));
    }

    #[test]
    fn a_thousand_data_fit_into_a_request() {
        let dimensions = ["AvailabilityZone", "LoadBalancer"].map(|name| (name, "x".repeat(255)));
        let datum = Datum { dimensions: dimensions.into(), ..datum() };
        assert!(form("ftpgate", &vec![datum; 1000]).len() < 1024 * 1024);
    }

    #[test]
    fn the_code_of_an_error_is_told() {
        let answer = "<ErrorResponse xmlns=\"http://monitoring.amazonaws.com/doc/2010-08-01/\">
            <Error><Type>Sender</Type><Code>InvalidParameterValue</Code>
            <Message>The parameter MetricData.member.1.Value is &lt;wrong&gt;.</Message></Error>
            <RequestId>3b1a2c4d-0000-1111-2222-333344445555</RequestId></ErrorResponse>";
        let refusal = Refusal::of(CLOUDWATCH, 400, answer);
        assert_eq!(refusal.message, "The parameter MetricData.member.1.Value is <wrong>.");
        let error = refusal.into_error();
        assert_eq!(error.to_string(), "CloudWatch answers InvalidParameterValue");
        assert_eq!((error.code(), error.status()), (Some("InvalidParameterValue"), Some(400)));
    }
}
