//! What a lab asks of moto: a hosted zone with its records, a VPC with an overlay route, and the
//! metrics that it was told. All of it is to be called inside one of the lab's hosts.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use super::http::{Answer, request};
use super::network::Place;
use crate::harness::aws::{ACCESS_KEY, REGION};

/// Its port.
pub(crate) const PORT: u16 = 5000;
const FORM: &str = "application/x-www-form-urlencoded";

/// A record set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordSet {
    /// Without the dot at its end.
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) ttl: u32,
    pub(crate) values: Vec<String>,
    /// `PRIMARY` or `SECONDARY`, and its health check, if it is one of two.
    pub(crate) failover: Option<(String, Option<String>)>,
}

/// Makes a hosted zone; its ID.
pub(crate) fn create_zone(name: &str) -> String {
    let body = format!(
        "<CreateHostedZoneRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
         <Name>{name}</Name><CallerReference>{name}</CallerReference></CreateHostedZoneRequest>"
    );
    let answer = route53("POST", "/2013-04-01/hostedzone", &body).unwrap().expect_success();
    between(&answer.body, "<Id>/hostedzone/", "</Id>").unwrap().to_owned()
}

/// Creates or replaces a record set.
pub(crate) fn upsert(zone: &str, set: &RecordSet) {
    let records = set.values.iter();
    let records: String = records
        .map(|value| format!("<ResourceRecord><Value>{value}</Value></ResourceRecord>"))
        .collect();
    let failover = set.failover.as_ref().map_or_else(String::new, |(role, check)| {
        let check = check
            .as_ref()
            .map_or_else(String::new, |check| format!("<HealthCheckId>{check}</HealthCheckId>"));
        format!("<SetIdentifier>{role}</SetIdentifier><Failover>{role}</Failover>{check}")
    });
    let body = format!(
        "<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
         <ChangeBatch><Changes><Change><Action>UPSERT</Action><ResourceRecordSet>\
         <Name>{}.</Name><Type>{}</Type>{failover}<TTL>{}</TTL>\
         <ResourceRecords>{records}</ResourceRecords>\
         </ResourceRecordSet></Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>",
        set.name, set.kind, set.ttl,
    );
    let path = format!("/2013-04-01/hostedzone/{zone}/rrset");
    route53("POST", &path, &body).unwrap().expect_success();
}

/// The record sets of a zone.
pub(crate) fn records(zone: &str) -> io::Result<Vec<RecordSet>> {
    let answer = route53("GET", &format!("/2013-04-01/hostedzone/{zone}/rrset"), "")?;
    let sets = answer.body.split("<ResourceRecordSet>").skip(1).map(|set| {
        let text = |tag: &str| between(set, &format!("<{tag}>"), &format!("</{tag}>"));
        let values = set.split("<Value>").skip(1).filter_map(|rest| rest.split("</Value>").next());
        Some(RecordSet {
            name: text("Name")?.trim_end_matches('.').to_owned(),
            kind: text("Type")?.to_owned(),
            ttl: text("TTL")?.parse().ok()?,
            values: values.map(str::to_owned).collect(),
            failover: text("Failover")
                .map(|role| (role.to_owned(), text("HealthCheckId").map(str::to_owned))),
        })
    });
    Ok(sets.flatten().collect())
}

/// A VPC with the clients' route table, and the network interfaces of both gateways.
#[derive(Debug, Clone)]
pub(crate) struct Vpc {
    pub(crate) route_table: String,
    pub(crate) interfaces: Vec<(Place, String)>,
}

/// Makes them, with a route for `overlay` to gateway A, as an operator does once.
pub(crate) fn create_vpc(overlay: Ipv4Addr) -> Vpc {
    let vpc = ec2("CreateVpc", &[("CidrBlock", "10.2.0.0/16")]);
    let vpc = between(&vpc, "<vpcId>", "</vpcId>").unwrap().to_owned();
    let interfaces = Place::GATEWAYS.map(|place| {
        let [first, second, third, _] = place.address().octets();
        let block = format!("{first}.{second}.{third}.0/24");
        let zone = ("AvailabilityZone", place.zone());
        let subnet = ec2("CreateSubnet", &[("VpcId", &vpc), ("CidrBlock", &block), zone]);
        let subnet = between(&subnet, "<subnetId>", "</subnetId>").unwrap();
        let address = place.address().to_string();
        let parameters = [("SubnetId", subnet), ("PrivateIpAddress", &address)];
        let interface = ec2("CreateNetworkInterface", &parameters);
        let id = between(&interface, "<networkInterfaceId>", "</networkInterfaceId>").unwrap();
        (place, id.to_owned())
    });
    let table = ec2("CreateRouteTable", &[("VpcId", &vpc)]);
    let table = between(&table, "<routeTableId>", "</routeTableId>").unwrap().to_owned();
    let destination = format!("{overlay}/32");
    ec2(
        "CreateRoute",
        &[
            ("RouteTableId", &table),
            ("DestinationCidrBlock", &destination),
            ("NetworkInterfaceId", &interfaces[0].1),
        ],
    );
    Vpc { route_table: table, interfaces: interfaces.into() }
}

impl Vpc {
    /// Where its route table sends `overlay` now.
    pub(crate) fn target(&self, overlay: Ipv4Addr) -> io::Result<Option<Place>> {
        let parameters = [("RouteTableId.1", &*self.route_table)];
        let answer = try_ec2("DescribeRouteTables", &parameters)?;
        let route = answer.body.split("<item>").find(|item| {
            item.contains(&format!("<destinationCidrBlock>{overlay}/32</destinationCidrBlock>"))
        });
        let place = route.and_then(|route| {
            let id = between(route, "<networkInterfaceId>", "</networkInterfaceId>")?;
            self.interfaces.iter().find(|(_, interface)| interface == id)
        });
        Ok(place.map(|(place, _)| *place))
    }
}

impl Vpc {
    /// Does what a gateway does when it takes over.
    pub(crate) fn replace(&self, overlay: Ipv4Addr, to: Place) {
        let (_, interface) = self.interfaces.iter().find(|(place, _)| *place == to).unwrap();
        ec2(
            "ReplaceRoute",
            &[
                ("RouteTableId", &self.route_table),
                ("DestinationCidrBlock", &format!("{overlay}/32")),
                ("NetworkInterfaceId", interface),
            ],
        );
    }
}

/// The metrics that there are in a namespace.
pub(crate) fn metric_names(namespace: &str) -> BTreeSet<String> {
    let body = format!("Action=ListMetrics&Version=2010-08-01&Namespace={namespace}");
    let answer = post_form("monitoring", PORT, &body).unwrap().expect_success();
    let names = answer.body.split("<MetricName>").skip(1);
    names.filter_map(|rest| rest.split("</MetricName>").next()).map(str::to_owned).collect()
}

fn route53(method: &str, path: &str, body: &str) -> io::Result<Answer> {
    call(PORT, &signature("route53"), method, path, "application/xml", body)
}

fn ec2(action: &str, parameters: &[(&str, &str)]) -> String {
    try_ec2(action, parameters).unwrap().expect_success().body
}

fn try_ec2(action: &str, parameters: &[(&str, &str)]) -> io::Result<Answer> {
    let mut body = format!("Action={action}&Version=2016-11-15");
    for (key, value) in parameters {
        body += &format!("&{key}={}", value.replace('/', "%2F"));
    }
    post_form("ec2", PORT, &body)
}

/// A call in the Query protocol, to moto or to what is before it.
pub(crate) fn post_form(service: &str, port: u16, body: &str) -> io::Result<Answer> {
    call(port, &signature(service), "POST", "/", FORM, body)
}

/// Lets moto answer a call in the Query protocol that somebody else signed.
pub(crate) fn pass_on_form(signature: &str, body: &str) -> io::Result<Answer> {
    call(PORT, signature, "POST", "/", FORM, body)
}

/// moto learns from the signature, which it does not check, which service is meant.
fn signature(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260101/{REGION}/{service}/aws4_request, \
         SignedHeaders=host, Signature=none"
    )
}

fn call(
    port: u16,
    signature: &str,
    method: &str,
    path: &str,
    kind: &str,
    body: &str,
) -> io::Result<Answer> {
    let headers = [("Authorization", signature), ("Content-Type", kind)];
    let to = SocketAddr::from((Place::Aws.address(), port));
    request(to, method, path, &headers, body.as_bytes())
}

/// What is between the first `start` and the next `end`.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    Some(text.split_once(start)?.1.split_once(end)?.0)
}
