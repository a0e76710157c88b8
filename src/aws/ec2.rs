//! Amazon EC2: the routes of a VPC, and where its endpoints are.

mod endpoints;

use std::collections::BTreeMap;
use std::iter;
use std::net::IpAddr;
use std::time::Duration;

use aws_smithy_query::QueryWriter;
use aws_smithy_xml::decode::{Document, ScopedDecoder, try_data};
use ipnet::IpNet;

use super::AwsError;
use super::endpoint::Service;
use super::refusal::Refusal;
use super::signed::{Api, Request};

pub use endpoints::EndpointAddress;

const EC2: Service = Service { name: "EC2", prefix: "ec2", global: false, fips_in_gov: false };
const VERSION: &str = "2016-11-15";

/// The VPCs of this account and region; nothing is asked before the first use.
#[derive(Debug)]
pub struct Vpc {
    api: Api,
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
        Self { api: Api::new(EC2, timeout, 1) }
    }

    /// Where the route of a table leads whose destination is exactly that address
    /// (DescribeRouteTables).
    ///
    /// # Errors
    ///
    /// [`RouteError`].
    pub async fn route(&self, table: &str, destination: IpAddr) -> Result<Target, RouteError> {
        let request = form("DescribeRouteTables", &[("RouteTableId.1", table)]);
        let answer = self.api.ask(&Request::form(request)).await?.map_err(Refusal::into_error)?;
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
        let request = form(
            "ReplaceRoute",
            &[
                ("RouteTableId", table),
                (block, &destination.to_string()),
                ("NetworkInterfaceId", network_interface),
            ],
        );
        match self.api.ask(&Request::form(request)).await? {
            Ok(_) => Ok(()),
            Err(refusal) if is_missing_route(&refusal) => {
                Err(RouteError::Missing { table: table.into(), destination })
            }
            Err(refusal) => Err(refusal.into_error().into()),
        }
    }
}

/// EC2's code for it is `InvalidRoute.NotFound` by the book. What EC2 says is that a parameter is
/// invalid, because "There is no route defined for" it.
fn is_missing_route(refusal: &Refusal) -> bool {
    match &*refusal.code {
        "InvalidRoute.NotFound" => true,
        "InvalidParameterValue" => refusal.message.contains("no route defined"),
        _ => false,
    }
}

fn form(action: &str, parameters: &[(&str, &str)]) -> String {
    let mut form = String::new();
    let mut query = QueryWriter::new(&mut form, action, VERSION);
    for (name, value) in parameters {
        query.prefix(name).string(value);
    }
    query.finish();
    form
}

/// Where the route of that destination leads, in an answer to DescribeRouteTables.
fn target(answer: &str, destination: IpNet) -> Option<Target> {
    let mut document = Document::new(answer);
    let mut elements = iter::from_fn(|| document.next_start_element());
    let routes = elements.find(|element| element.local() == "routeSet")?;
    let mut routes = document.scoped_to(routes);
    while let Some(mut route) = routes.next_tag() {
        let mut route = texts(&mut route);
        let block = ["destinationCidrBlock", "destinationIpv6CidrBlock"];
        let block = block.into_iter().find_map(|name| route.get(name));
        if block.and_then(|block| block.parse().ok()) != Some(destination) {
            continue;
        }
        if let Some(id) = route.remove("networkInterfaceId") {
            return Some(Target::NetworkInterface(id));
        }
        let ids = ["gatewayId", "natGatewayId", "transitGatewayId", "vpcPeeringConnectionId"];
        let id = ids.into_iter().find_map(|name| route.remove(name));
        return Some(Target::Other(id.unwrap_or_else(|| "something else".into())));
    }
    None
}

/// The elements that have any text, which all of a route have, by name.
fn texts(parent: &mut ScopedDecoder<'_, '_>) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    while let Some(mut element) = parent.next_tag() {
        let name = element.start_el().local().to_owned();
        let text = try_data(&mut element).unwrap_or_default();
        if !text.trim().is_empty() {
            texts.insert(name, text.trim().to_owned());
        }
    }
    texts
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
        let parameters = [("DestinationIpv6CidrBlock", "2001:db8::1/128")];
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
        let refusal = |status, answer: &str| Refusal::of(EC2, status, answer);
        assert!(is_missing_route(&refusal(400, &error("InvalidParameterValue", message))));
        assert!(is_missing_route(&refusal(400, &error("InvalidRoute.NotFound", ""))));
        let other = refusal(403, &error("UnauthorizedOperation", "You are not authorized"));
        assert!(!is_missing_route(&other));
        assert_eq!(other.into_error().to_string(), "EC2 answers UnauthorizedOperation");
        let broken = refusal(502, "<html>").into_error();
        assert_eq!(broken.to_string(), "EC2 answers HTTP 502");
    }
}
