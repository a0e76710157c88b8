//! What moto is to have before a gateway asks for it: a VPC, a hosted zone, a bucket, and a Transfer
//! Family server.

use serde_json::{Value, json};

use super::aws::{Moto, REGION};

impl Moto {
    /// Its answer to an action of EC2.
    pub(crate) fn ec2(&self, action: &str, parameters: &[(&str, &str)]) -> String {
        let mut body = format!("Action={action}&Version=2016-11-15");
        for (key, value) in parameters {
            body += &format!("&{key}={}", value.replace('/', "%2F"));
        }
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        let (status, answer) = self.send("ec2", "POST /", form, &body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// A new VPC with a subnet in zone a and one in zone c: all their IDs.
    pub(crate) fn create_vpc(&self) -> (String, [String; 2]) {
        let vpc = self.ec2("CreateVpc", &[("CidrBlock", "10.2.0.0/16")]);
        let vpc = between(&vpc, "<vpcId>", "</vpcId>");
        let subnets = [("10.2.3.0/24", "a"), ("10.2.4.0/24", "c")].map(|(block, zone)| {
            let zone = format!("{REGION}{zone}");
            let parameters = [("VpcId", &*vpc), ("CidrBlock", block), ("AvailabilityZone", &*zone)];
            between(&self.ec2("CreateSubnet", &parameters), "<subnetId>", "</subnetId>")
        });
        (vpc, subnets)
    }

    /// A new network interface.
    pub(crate) fn create_interface(&self, subnet: &str) -> String {
        let made = self.ec2("CreateNetworkInterface", &[("SubnetId", subnet)]);
        between(&made, "<networkInterfaceId>", "</networkInterfaceId>")
    }

    /// A new hosted zone.
    pub(crate) fn create_zone(&self, name: &str) -> String {
        let body = format!(
            "<CreateHostedZoneRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
             <Name>{name}</Name><CallerReference>{name}</CallerReference></CreateHostedZoneRequest>"
        );
        let (status, answer) = self.send("route53", "POST /2013-04-01/hostedzone", "", &body);
        assert_eq!(status, 201, "{answer}");
        between(&answer, "<Id>/hostedzone/", "</Id>")
    }

    /// A new bucket.
    pub(crate) fn create_bucket(&self, name: &str) {
        let body = format!(
            "<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint>\
             </CreateBucketConfiguration>"
        );
        let (status, answer) = self.send("s3", &format!("PUT /{name}"), "", &body);
        assert_eq!(status, 200, "{answer}");
    }

    /// A new Transfer Family server with endpoints in both zones, in a VPC or in none: its ID, and
    /// the addresses in zones a and c.
    pub(crate) fn create_server(&self, protocols: &[&str], in_vpc: bool) -> (String, Vec<String>) {
        let mut server = json!({ "Protocols": protocols });
        let mut addresses = Vec::new();
        if in_vpc {
            let (vpc, subnets) = self.create_vpc();
            let service = format!("com.amazonaws.{REGION}.transfer.server");
            let endpoint = self.ec2(
                "CreateVpcEndpoint",
                &[
                    ("VpcId", &vpc),
                    ("ServiceName", &service),
                    ("VpcEndpointType", "Interface"),
                    // In the order of an endpoint that was not made for tests.
                    ("SubnetId.1", &subnets[1]),
                    ("SubnetId.2", &subnets[0]),
                ],
            );
            let endpoint = between(&endpoint, "<vpcEndpointId>", "</vpcEndpointId>");
            server["EndpointType"] = "VPC".into();
            server["EndpointDetails"] = json!({ "VpcEndpointId": endpoint });
            addresses = subnets.map(|subnet| self.address_in(&subnet)).into();
        }
        let (status, answer) = self.send_json("transfer", "TransferService.CreateServer", &server);
        assert_eq!(status, 200, "{answer}");
        let made: Value = serde_json::from_str(&answer).unwrap();
        (made["ServerId"].as_str().unwrap().to_owned(), addresses)
    }

    /// The address of the one network interface in a subnet.
    fn address_in(&self, subnet: &str) -> String {
        let filter = [("Filter.1.Name", "subnet-id"), ("Filter.1.Value.1", subnet)];
        let found = self.ec2("DescribeNetworkInterfaces", &filter);
        between(&found, "<privateIpAddress>", "</privateIpAddress>")
    }
}

/// What is between the first `start` and the next `end`.
pub(crate) fn between(text: &str, start: &str, end: &str) -> String {
    let found = text.split_once(start).and_then(|(_, rest)| rest.split_once(end));
    found.unwrap_or_else(|| panic!("no {start} in {text}")).0.to_owned()
}
