//! The addresses of a VPC endpoint.

use std::iter;
use std::net::IpAddr;

use aws_smithy_xml::decode::{Document, try_data};

use super::{Vpc, form, texts};
use crate::aws::AwsError;
use crate::aws::refusal::Refusal;
use crate::aws::signed::Request;

/// An address of a VPC endpoint, and the availability zone that it is in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointAddress {
    /// The zone's name, such as `ap-northeast-1a`.
    pub zone: String,
    /// The address of its network interface there.
    pub address: IpAddr,
}

impl Vpc {
    /// The addresses of a VPC endpoint, by zone (DescribeVpcEndpoints, DescribeNetworkInterfaces).
    ///
    /// # Errors
    ///
    /// [`AwsError`].
    pub async fn endpoint_addresses(&self, id: &str) -> Result<Vec<EndpointAddress>, AwsError> {
        let request = form("DescribeVpcEndpoints", &[("VpcEndpointId.1", id)]);
        let answer = self.api.ask(&Request::form(request)).await?.map_err(Refusal::into_error)?;
        let ids = network_interfaces(&answer);
        if ids.is_empty() {
            // Without any ID all interfaces there are would be described.
            return Ok(Vec::new());
        }
        let names: Vec<String> =
            (1..=ids.len()).map(|number| format!("NetworkInterfaceId.{number}")).collect();
        let parameters: Vec<(&str, &str)> =
            names.iter().map(String::as_str).zip(ids.iter().map(String::as_str)).collect();
        let request = form("DescribeNetworkInterfaces", &parameters);
        let answer = self.api.ask(&Request::form(request)).await?.map_err(Refusal::into_error)?;
        Ok(addresses(&answer))
    }
}

/// Those of the one endpoint in an answer to DescribeVpcEndpoints.
fn network_interfaces(answer: &str) -> Vec<String> {
    let mut document = Document::new(answer);
    let mut elements = iter::from_fn(|| document.next_start_element());
    let Some(set) = elements.find(|element| element.local() == "networkInterfaceIdSet") else {
        return Vec::new();
    };
    let mut set = document.scoped_to(set);
    let mut ids = Vec::new();
    while let Some(mut item) = set.next_tag() {
        let id = try_data(&mut item).unwrap_or_default();
        ids.push(id.trim().to_owned());
    }
    ids
}

/// Those in an answer to DescribeNetworkInterfaces, in the order of their zones.
fn addresses(answer: &str) -> Vec<EndpointAddress> {
    let mut document = Document::new(answer);
    let mut elements = iter::from_fn(|| document.next_start_element());
    let Some(set) = elements.find(|element| element.local() == "networkInterfaceSet") else {
        return Vec::new();
    };
    let mut set = document.scoped_to(set);
    let mut found = Vec::new();
    while let Some(mut item) = set.next_tag() {
        let mut item = texts(&mut item);
        let address = item.get("privateIpAddress").and_then(|address| address.parse().ok());
        if let (Some(address), Some(zone)) = (address, item.remove("availabilityZone")) {
            found.push(EndpointAddress { zone, address });
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the API reference shows the answers, shortened.
    #[test]
    fn the_addresses_are_read_by_zone() {
        let endpoint =
            "<DescribeVpcEndpointsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">
            <vpcEndpointSet><item><vpcEndpointId>vpce-1</vpcEndpointId><routeTableIdSet/>
            <networkInterfaceIdSet><item>eni-c</item><item>eni-a</item></networkInterfaceIdSet>
            <subnetIdSet><item>subnet-1</item></subnetIdSet></item></vpcEndpointSet>
            </DescribeVpcEndpointsResponse>";
        assert_eq!(network_interfaces(endpoint), ["eni-c", "eni-a"]);
        let interface = |zone: &str, address: &str| {
            format!(
                "<item><networkInterfaceId>eni-{zone}</networkInterfaceId>
                <availabilityZone>ap-northeast-1{zone}</availabilityZone>
                <groupSet><item><groupId>sg-1</groupId></item></groupSet>
                <privateIpAddress>{address}</privateIpAddress><privateIpAddressesSet><item>
                <privateIpAddress>10.9.9.9</privateIpAddress><primary>true</primary></item>
                </privateIpAddressesSet></item>"
            )
        };
        let interfaces = format!(
            "<DescribeNetworkInterfacesResponse><networkInterfaceSet>{}{}</networkInterfaceSet>
            </DescribeNetworkInterfacesResponse>",
            interface("c", "10.2.4.10"),
            interface("a", "10.2.3.10"),
        );
        let shown: Vec<String> = addresses(&interfaces)
            .iter()
            .map(|found| format!("{} {}", found.address, found.zone))
            .collect();
        assert_eq!(shown, ["10.2.3.10 ap-northeast-1a", "10.2.4.10 ap-northeast-1c"]);
    }

    #[test]
    fn an_answer_without_any_is_none() {
        for answer in ["", "<html></html>", "<a><networkInterfaceIdSet/><networkInterfaceSet/></a>"]
        {
            assert!(network_interfaces(answer).is_empty(), "{answer}");
            assert!(addresses(answer).is_empty(), "{answer}");
        }
    }
}
