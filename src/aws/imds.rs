//! The instance metadata service, version 2 (IMDSv2: a session token, then the question).

use std::time::Duration;

use aws_config::imds::Client;

use super::innermost;

/// How long the service may take: it is on this very machine's host.
const TIMEOUT: Duration = Duration::from_millis(500);
/// All attempts together, for the token and for the question.
const OPERATION_TIMEOUT: Duration = Duration::from_millis(1500);
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
/// If it does not answer within about two seconds, or with nonsense.
pub async fn availability_zone() -> Result<String, ImdsError> {
    let answer = client().get("/latest/meta-data/placement/availability-zone").await;
    let zone = answer.map_err(|error| ImdsError(innermost(&error)))?;
    let zone: String = zone.into();
    let plausible = (1..=64).contains(&zone.len())
        && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if plausible { Ok(zone) } else { Err(ImdsError("its answer is no zone's name".into())) }
}

/// A client that gives up soon.
pub(super) fn client() -> Client {
    Client::builder()
        .connect_timeout(TIMEOUT)
        .read_timeout(TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .max_attempts(ATTEMPTS)
        .build()
}
