//! The endpoints of a Transfer Family server, as AWS tells them.

use std::time::Duration;

use super::node::Endpoint;
use crate::aws::AwsError;
use crate::aws::ec2::Vpc;
use crate::aws::transfer::Transfer;
use crate::cli::node::Trouble;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Those of that server, by zone.
pub(super) async fn endpoints(server: &str) -> Result<Vec<Endpoint>, Trouble> {
    let described = Transfer::new(TIMEOUT).server(server).await.map_err(|error| {
        let remedy = match error.code() {
            Some("ResourceNotFoundException" | "ServerNotFound") => {
                ": there is no such server in this account and region (AWS_REGION)"
            }
            _ => permission(&error),
        };
        Trouble::Refused(format!("{error}{remedy}"))
    })?;
    if !described.protocols.iter().any(|protocol| protocol == "FTP") {
        let spoken = described.protocols.join(" and ");
        return Err(Trouble::Refused(format!(
            "{server} speaks {spoken}, and no FTP: add FTP to its protocols, or, for FTPS, write \
             [upstream.tls] and its endpoints by hand (config/ftpgate.toml shows how)"
        )));
    }
    let Some(endpoint) = described.vpc_endpoint() else {
        return Err(Trouble::Refused(format!(
            "{server} has no endpoint in a VPC, where FTP must be: see its EndpointType"
        )));
    };
    let found = Vpc::new(TIMEOUT)
        .endpoint_addresses(endpoint)
        .await
        .map_err(|error| Trouble::Refused(format!("{error}{}", permission(&error))))?;
    if found.is_empty() {
        return Err(Trouble::Refused(format!(
            "{endpoint}, the endpoint of {server}, has no address yet: is the server being made?"
        )));
    }
    let endpoints = found.into_iter();
    Ok(endpoints
        .map(|found| Endpoint { address: found.address.to_string(), zone: Some(found.zone) })
        .collect())
}

/// What to do about a refusal, if that is it.
fn permission(error: &AwsError) -> &'static str {
    match error.code() {
        Some("AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation") => {
            ": config/iam/init.json has what you must be allowed to do"
        }
        _ => "",
    }
}
