//! Thin adapters to AWS. Only this room names a type of the AWS SDK.
//!
//! Region, credentials and endpoints are found as the AWS SDKs do: environment, profile, instance
//! metadata. Nothing is asked before it is needed, and every call is bounded in time.

pub mod cloudwatch;
pub mod ec2;
mod endpoint;
pub mod imds;
mod refusal;
pub mod route53;
pub mod s3;
pub mod secrets;
mod signed;
pub mod transfer;

use std::error::Error;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

/// How often one operation is tried, all within its time.
const ATTEMPTS: u32 = 2;
/// The longest error code that is passed on; AWS's own are shorter.
const CODE: usize = 64;

/// A call to AWS has failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AwsError {
    /// Nothing tells the region.
    #[error(
        "no AWS region is known: set AWS_REGION, or let the instance metadata service answer (IMDSv2)"
    )]
    NoRegion,
    /// The service answered, with an error.
    #[error("{service} answers {code}")]
    Refused {
        /// Its name.
        service: &'static str,
        /// AWS's own code, such as `AccessDenied`, or the status of HTTP.
        code: String,
        /// The status of HTTP.
        status: u16,
    },
    /// No answer came, or nobody could be asked: no route, no credentials, no time.
    #[error("{service} cannot be asked: {cause}")]
    Unreachable {
        /// Its name.
        service: &'static str,
        /// The innermost cause.
        cause: String,
    },
}

impl AwsError {
    /// AWS's own code, if the service answered.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            Self::NoRegion | Self::Unreachable { .. } => None,
        }
    }

    /// The status of HTTP, if the service answered.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::NoRegion | Self::Unreachable { .. } => None,
        }
    }

    fn of<E>(service: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        match (error, status) {
            (SdkError::TimeoutError(_), _) => {
                Self::Unreachable { service, cause: "no answer in time".into() }
            }
            (_, Some(status)) => {
                let code = error.code().map(plain).filter(|code| !code.is_empty());
                let code = code.unwrap_or_else(|| format!("HTTP {status}"));
                Self::Refused { service, code, status }
            }
            (_, None) => Self::Unreachable { service, cause: innermost(error) },
        }
    }
}

/// What all clients have in common; each operation is over within `timeout`, and sent at most
/// `attempts` times.
async fn sdk_config(timeout: Duration, attempts: u32) -> Result<SdkConfig, AwsError> {
    // The SDK's own chain, but with a metadata service that is given up soon.
    let region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .or_else(ImdsRegionProvider::builder().imds_client(imds::client()).build());
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(region)
        .retry_config(RetryConfig::standard().with_max_attempts(attempts))
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(timeout / 2)
                .operation_attempt_timeout(attempt_timeout(timeout, attempts))
                .operation_timeout(timeout)
                .build(),
        )
        // It is for streams of megabytes and would only add another way to fail.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .load()
        .await;
    // Not kept: it may be known the next time.
    let known = config.region().is_some_and(|region| !region.as_ref().is_empty());
    if known { Ok(config) } else { Err(AwsError::NoRegion) }
}

/// How long one attempt may take: with others to come, something is left for them.
fn attempt_timeout(timeout: Duration, attempts: u32) -> Duration {
    if attempts > 1 { timeout * 2 / 3 } else { timeout }
}

/// The innermost cause, which says most; its first line, as the one of missing credentials goes on
/// with a list of all places that were looked at.
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let cause = cause.to_string();
    let line = cause.lines().next().unwrap_or_default();
    line.trim_end_matches(" Attempted:").into()
}

/// A code as far as it can be one; dots are part of EC2's.
fn plain(code: &str) -> String {
    let plain = code.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.');
    plain.take(CODE).collect()
}
