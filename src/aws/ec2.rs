//! Amazon EC2: the routes of a VPC.
//!
//! Two operations of the Query API, signed and sent by ourselves: EC2's SDK would double the time
//! that a build takes.

use std::collections::BTreeMap;
use std::env;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::config::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::primitives::SdkBody;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::http::HttpConnector;
use http_body_util::{BodyExt, Limited};
use hyper::Request;
use ipnet::IpNet;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::{AwsError, innermost, sdk_config};

const SERVICE: &str = "EC2";
const VERSION: &str = "2016-11-15";
/// What the body of a request is.
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
/// More than a route table of the highest quota (1000 routes) fills.
const LIMIT: usize = 1024 * 1024;

/// The routes of the VPCs of this account and region; nothing is asked before the first use.
#[derive(Debug)]
pub struct Vpc {
    timeout: Duration,
    api: OnceCell<Api>,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A network interface, such as `eni-0123456789abcdef0`.
    NetworkInterface(String),
    /// Something else, such as a gateway, by its ID.
    Other(String),
}

/// A route could not be looked at or replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// There is none to be replaced.
    #[error(
        "the route table {table} has no route to {destination}: create it once, with any network interface as its target (CreateRoute)"
    )]
    Missing {
        /// Its ID.
        table: String,
        /// The destination.
        destination: IpNet,
    },
    /// EC2 cannot be asked, or refuses.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

impl Vpc {
    /// Each operation is over within `timeout`; nothing is sent twice.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, api: OnceCell::new() }
    }

    /// Where the route of a table leads whose destination is exactly that address
    /// (DescribeRouteTables).
    ///
    /// # Errors
    ///
    /// [`RouteError`].
    pub async fn route(&self, table: &str, destination: IpAddr) -> Result<Target, RouteError> {
        let parameters = BTreeMap::from([("RouteTableId.1", table.to_owned())]);
        let answer =
            self.ask("DescribeRouteTables", parameters).await?.map_err(Refusal::into_error)?;
        let destination = IpNet::from(destination);
        let missing = || RouteError::Missing { table: table.into(), destination };
        target(&answer, destination).ok_or_else(missing)
    }

    /// Lets the route of a table whose destination is exactly that address lead to a network
    /// interface (ReplaceRoute).
    ///
    /// # Errors
    ///
    /// [`RouteError`].
    pub async fn replace_route(
        &self,
        table: &str,
        destination: IpAddr,
        network_interface: &str,
    ) -> Result<(), RouteError> {
        let destination = IpNet::from(destination);
        let block = match destination {
            IpNet::V4(_) => "DestinationCidrBlock",
            IpNet::V6(_) => "DestinationIpv6CidrBlock",
        };
        let parameters = BTreeMap::from([
            ("RouteTableId", table.to_owned()),
            (block, destination.to_string()),
            ("NetworkInterfaceId", network_interface.to_owned()),
        ]);
        match self.ask("ReplaceRoute", parameters).await? {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.is_missing_route() => {
                Err(RouteError::Missing { table: table.into(), destination })
            }
            Err(refusal) => Err(refusal.into_error().into()),
        }
    }

    /// What EC2 answers to one request, in XML.
    async fn ask(
        &self,
        action: &'static str,
        parameters: BTreeMap<&'static str, String>,
    ) -> Result<Result<String, Refusal>, AwsError> {
        let exchange = async {
            let make = async || Api::new(&sdk_config(self.timeout, 1).await?);
            let api = self.api.get_or_try_init(make).await?;
            let request = api.request(&form(action, &parameters)).await.map_err(unreachable)?;
            let answer = api.connector.call(request).await;
            let answer = answer.map_err(|error| unreachable(innermost(&error)))?;
            read(answer).await.map_err(unreachable)
        };
        let answer = timeout(self.timeout, exchange).await;
        answer.unwrap_or_else(|_| Err(unreachable("no answer in time".into())))
    }
}

/// Where EC2 is, and who asks.
#[derive(Debug)]
struct Api {
    endpoint: String,
    region: String,
    credentials: SharedCredentialsProvider,
    connector: Connector,
}

impl Api {
    fn new(config: &SdkConfig) -> Result<Self, AwsError> {
        let region = config.region().ok_or(AwsError::NoRegion)?.to_string();
        let own = env::var("AWS_ENDPOINT_URL_EC2").ok().filter(|url| !url.is_empty());
        let endpoint = own.or_else(|| config.endpoint_url().map(str::to_owned));
        // China is a partition of its own.
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let endpoint = endpoint.unwrap_or_else(|| format!("https://ec2.{region}.{domain}"));
        let credentials = config.credentials_provider();
        let credentials = credentials.ok_or_else(|| unreachable("no credentials".into()))?;
        let connector =
            Connector::builder().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build();
        let endpoint = format!("{}/", endpoint.trim_end_matches('/'));
        Ok(Self { endpoint, region, credentials, connector })
    }

    /// A request with that body, signed.
    async fn request(&self, form: &str) -> Result<HttpRequest, String> {
        let credentials = self.credentials.provide_credentials().await;
        let identity = credentials.map_err(|error| innermost(&error))?.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("ec2")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let headers = [("content-type", FORM)].into_iter();
        let body = SignableBody::Bytes(form.as_bytes());
        let signable = SignableRequest::new("POST", &*self.endpoint, headers, body)
            .map_err(|error| innermost(&error))?;
        let signed = sign(signable, &parameters).map_err(|error| innermost(&error))?;
        let mut request = Request::post(&*self.endpoint)
            .header("content-type", FORM)
            .body(SdkBody::from(form))
            .map_err(|error| error.to_string())?;
        signed.into_parts().0.apply_to_request_http1x(&mut request);
        request.try_into().map_err(|error| innermost(&error))
    }
}

/// EC2 says no.
#[derive(Debug)]
struct Refusal {
    status: u16,
    code: String,
    message: String,
}

impl Refusal {
    fn of(status: u16, answer: &str) -> Self {
        let text = |name| element(answer, name).unwrap_or_default();
        // Dots are part of EC2's codes.
        let code = text("Code").chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.');
        let code: String = code.take(super::CODE).collect();
        let code = if code.is_empty() { format!("HTTP {status}") } else { code };
        Self { status, code, message: text("Message").into() }
    }

    /// EC2's code for it is `InvalidRoute.NotFound` by the book. What EC2 says is that a parameter
    /// is invalid, because "There is no route defined for" it.
    fn is_missing_route(&self) -> bool {
        match &*self.code {
            "InvalidRoute.NotFound" => true,
            "InvalidParameterValue" => self.message.contains("no route defined"),
            _ => false,
        }
    }

    fn into_error(self) -> AwsError {
        AwsError::Refused { service: SERVICE, code: self.code, status: self.status }
    }
}

async fn read(answer: HttpResponse) -> Result<Result<String, Refusal>, String> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LIMIT).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(if status.is_success() { Ok(body) } else { Err(Refusal::of(status.as_u16(), &body)) })
}

fn form(action: &str, parameters: &BTreeMap<&'static str, String>) -> String {
    let mut form = format!("Action={action}&Version={VERSION}");
    for (name, value) in parameters {
        form.push_str(&format!("&{name}="));
        for byte in value.bytes() {
            match byte {
                b'-' | b'.' | b'_' => form.push(char::from(byte)),
                _ if byte.is_ascii_alphanumeric() => form.push(char::from(byte)),
                _ => form.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    form
}

/// Where the route of that destination leads, in an answer to DescribeRouteTables.
fn target(answer: &str, destination: IpNet) -> Option<Target> {
    let is_wanted = |route: &&str| {
        let block = element(route, "destinationCidrBlock");
        let block = block.or_else(|| element(route, "destinationIpv6CidrBlock"));
        block.and_then(|block| block.parse().ok()) == Some(destination)
    };
    // Nothing in a route is a list.
    let route = element(answer, "routeSet")?.split("<item>").skip(1).find(is_wanted)?;
    if let Some(id) = element(route, "networkInterfaceId").filter(|id| !id.is_empty()) {
        return Some(Target::NetworkInterface(id.into()));
    }
    let ids = ["gatewayId", "natGatewayId", "transitGatewayId", "vpcPeeringConnectionId"];
    let id = ids.into_iter().find_map(|name| element(route, name).filter(|id| !id.is_empty()));
    Some(Target::Other(id.unwrap_or("something else").into()))
}

/// The content of the first element of that name; EC2 gives none of them attributes.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (content, _) = rest.split_once(&format!("</{name}>"))?;
    Some(content.trim())
}

fn unreachable(cause: String) -> AwsError {
    AwsError::Unreachable { service: SERVICE, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "<DescribeRouteTablesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">
        <requestId>1</requestId><routeTableSet><item><routeTableId>rtb-1</routeTableId><routeSet>
        <item><destinationCidrBlock>10.0.0.0/16</destinationCidrBlock><gatewayId>local</gatewayId>
        <state>active</state></item>
        <item><destinationCidrBlock>198.51.100.1/32</destinationCidrBlock>
        <instanceId>i-1</instanceId><networkInterfaceId>eni-1</networkInterfaceId></item>
        <item><destinationIpv6CidrBlock>2001:DB8:0::1/128</destinationIpv6CidrBlock>
        <natGatewayId>nat-1</natGatewayId></item>
        </routeSet><associationSet><item><routeTableAssociationId>rtbassoc-1</routeTableAssociationId>
        </item></associationSet></item></routeTableSet></DescribeRouteTablesResponse>";

    fn look(destination: &str) -> Option<Target> {
        target(TABLE, destination.parse().unwrap())
    }

    #[test]
    fn the_route_of_exactly_that_destination_is_found() {
        assert_eq!(look("198.51.100.1/32"), Some(Target::NetworkInterface("eni-1".into())));
        assert_eq!(look("2001:db8::1/128"), Some(Target::Other("nat-1".into())));
        assert_eq!(look("10.0.0.0/16"), Some(Target::Other("local".into())));
        assert_eq!(look("10.0.0.1/32"), None);
    }

    #[test]
    fn values_are_encoded() {
        let parameters = BTreeMap::from([("DestinationIpv6CidrBlock", "2001:db8::1/128".into())]);
        let expected = "Action=ReplaceRoute&Version=2016-11-15&DestinationIpv6CidrBlock=2001%3Adb8%3A%3A1%2F128";
        assert_eq!(form("ReplaceRoute", &parameters), expected);
    }

    #[test]
    fn both_answers_to_a_missing_route_are_understood() {
        let error = |code, message| {
            format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors></Response>"
            )
        };
        let message = "There is no route defined for '198.51.100.1/32' in the route table.";
        assert!(Refusal::of(400, &error("InvalidParameterValue", message)).is_missing_route());
        assert!(Refusal::of(400, &error("InvalidRoute.NotFound", "")).is_missing_route());
        let other = Refusal::of(403, &error("UnauthorizedOperation", "You are not authorized"));
        assert!(!other.is_missing_route());
        assert_eq!(other.into_error().to_string(), "EC2 answers UnauthorizedOperation");
        assert_eq!(Refusal::of(502, "<html>").into_error().to_string(), "EC2 answers HTTP 502");
    }
}
