//! AWS Transfer Family: where a server is.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::endpoint::Service;
use super::refusal::Refusal;
use super::signed::{Api, Request};
use super::{ATTEMPTS, AwsError};

const TRANSFER: Service =
    Service { name: "Transfer", prefix: "transfer", global: false, fips_in_gov: true };

/// Transfer Family; nothing is asked before the first use.
#[derive(Debug)]
pub struct Transfer {
    api: Api,
}

/// A server, as far as it concerns who stands before it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Server {
    /// `FTP`, `FTPS` and others.
    #[serde(default)]
    pub protocols: Vec<String>,
    #[serde(default)]
    endpoint_details: EndpointDetails,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EndpointDetails {
    vpc_endpoint_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    server: Server,
}

impl Server {
    /// Its VPC endpoint, if it is in a VPC.
    pub fn vpc_endpoint(&self) -> Option<&str> {
        self.endpoint_details.vpc_endpoint_id.as_deref()
    }
}

impl Transfer {
    /// Each operation is over within `timeout`.
    pub fn new(timeout: Duration) -> Self {
        Self { api: Api::new(TRANSFER, timeout, ATTEMPTS) }
    }

    /// The server of that ID (DescribeServer).
    ///
    /// # Errors
    ///
    /// [`AwsError`]; its code is `ResourceNotFoundException` if there is no such server.
    pub async fn server(&self, id: &str) -> Result<Server, AwsError> {
        let request = json!({ "ServerId": id }).to_string();
        let request = Request::json("TransferService.DescribeServer", request);
        let answer = self.api.ask(&request).await?.map_err(Refusal::into_error)?;
        let described: Described =
            serde_json::from_str(&answer).map_err(|error| self.api.nonsense(&error))?;
        Ok(described.server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_read_from_an_answer() {
        let answer = r#"{"Server": {"Arn": "arn:aws:transfer:ap-northeast-1:1:server/s-1", "Protocols": ["FTP"],
            "EndpointDetails": {"SubnetIds": ["subnet-1"], "VpcEndpointId": "vpce-1", "VpcId": "vpc-1"},
            "EndpointType": "VPC", "ServerId": "s-1", "State": "ONLINE"}}"#;
        let Described { server } = serde_json::from_str(answer).unwrap();
        assert_eq!(
            (server.vpc_endpoint(), &*server.protocols),
            (Some("vpce-1"), &["FTP".into()][..])
        );
        let public = r#"{"Server": {"Protocols": ["SFTP"], "EndpointType": "PUBLIC"}}"#;
        let Described { server } = serde_json::from_str(public).unwrap();
        assert_eq!(server.vpc_endpoint(), None);
    }

    #[test]
    fn the_code_of_an_error_is_told() {
        let answer = r#"{"__type": "com.amazonaws.transfer#ResourceNotFoundException", "Message": "Unknown server",
            "ResourceType": "Server", "Resource": "s-1"}"#;
        let refusal = Refusal::of(TRANSFER, 400, answer);
        assert_eq!(refusal.message, "Unknown server");
        assert_eq!(refusal.into_error().to_string(), "Transfer answers ResourceNotFoundException");
        let throttled = Refusal::of(TRANSFER, 400, r#"{"__type": "ThrottlingException"}"#);
        assert!(throttled.may_pass());
    }
}
