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
    "the instance metadata service: {cause}; is this an EC2 instance with IMDSv2 on? Else write {instead}"
)]
pub struct ImdsError {
    cause: String,
    /// What of the configuration says the same.
    instead: &'static str,
}

/// `placement/availability-zone`, such as `ap-northeast-1a`. The service is found as the AWS SDKs
/// do, `AWS_EC2_METADATA_SERVICE_ENDPOINT` included.
///
/// # Errors
///
/// If it does not answer within about two seconds, or with nonsense.
pub async fn availability_zone() -> Result<String, ImdsError> {
    let instead = "the zone into node.zone";
    let zone = get(&client(), "/latest/meta-data/placement/availability-zone", instead).await?;
    if is_name(&zone) {
        Ok(zone)
    } else {
        Err(ImdsError { cause: "its answer is no zone's name".into(), instead })
    }
}

/// The primary network interface of this instance, such as `eni-0123456789abcdef0`.
///
/// # Errors
///
/// If the service does not answer within about four seconds, or with nonsense.
pub async fn network_interface() -> Result<String, ImdsError> {
    let instead = "the network interface into ha.route.network_interface";
    let nonsense = |what| ImdsError { cause: format!("its answer is no {what}"), instead };
    let client = client();
    let mac = get(&client, "/latest/meta-data/mac", instead).await?;
    // It becomes a part of the next question.
    if !mac.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':') {
        return Err(nonsense("MAC address"));
    }
    let path = format!("/latest/meta-data/network/interfaces/macs/{mac}/interface-id");
    let id = get(&client, &path, instead).await?;
    let plausible = id.starts_with("eni-") && is_name(&id);
    if plausible { Ok(id) } else { Err(nonsense("network interface")) }
}

async fn get(client: &Client, path: &str, instead: &'static str) -> Result<String, ImdsError> {
    let answer = client.get(path).await;
    let answer = answer.map_err(|error| ImdsError { cause: innermost(&error), instead })?;
    Ok(answer.into())
}

/// Whether that can be the name of a zone or of a resource.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
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
