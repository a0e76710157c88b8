//! The instance metadata service, version 2 (IMDSv2: a session token, then the question).

use std::time::Duration;

use aws_config::imds::Client;

/// How long the service may take: it is on this very machine's host.
const TIMEOUT: Duration = Duration::from_millis(500);
const ATTEMPTS: u32 = 2;

/// The service did not answer.
#[derive(Debug, thiserror::Error)]
#[error(
    "the instance metadata service: {0}; is this an EC2 instance with IMDSv2 on? Else write the zone into node.zone"
)]
pub struct ImdsError(String);

/// `placement/availability-zone`, such as `ap-northeast-1a`. The service is found as the AWS SDKs
/// do, `AWS_EC2_METADATA_SERVICE_ENDPOINT` included.
///
/// # Errors
///
/// If it does not answer within about a second, or with nonsense.
pub async fn availability_zone() -> Result<String, ImdsError> {
    let client = Client::builder()
        .connect_timeout(TIMEOUT)
        .read_timeout(TIMEOUT)
        .max_attempts(ATTEMPTS)
        .build();
    let answer = client.get("/latest/meta-data/placement/availability-zone").await;
    let zone = answer.map_err(|error| ImdsError(cause(&error)))?;
    let zone: String = zone.into();
    let plausible = (1..=64).contains(&zone.len())
        && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if plausible { Ok(zone) } else { Err(ImdsError("its answer is no zone's name".into())) }
}

/// The innermost cause, which says most.
fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
