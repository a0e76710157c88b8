//! Amazon Route 53: the address records of one name in one hosted zone.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use aws_smithy_xml::decode::{Document, ScopedDecoder, XmlDecodeError, try_data};
use aws_smithy_xml::encode::{ScopeWriter, XmlWriter};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::endpoint::Service;
use super::refusal::Refusal;
use super::signed::{Api, Request};
use super::{ATTEMPTS, AwsError};

const ROUTE_53: Service =
    Service { name: "Route 53", prefix: "route53", global: true, fips_in_gov: false };
const NAMESPACE: &str = "https://route53.amazonaws.com/doc/2013-04-01/";
/// What Route 53 takes a record without a TTL for; only aliases have none.
const NO_TTL: Duration = Duration::ZERO;
/// Elements of a record set that is not plain, the ones that say most first, and what it is.
const SPECIAL: [(&str, &str); 5] = [
    ("AliasTarget", "an alias"),
    ("Failover", "a failover record"),
    ("SetIdentifier", "a record with a set identifier"),
    ("HealthCheckId", "a record with a health check or a traffic policy"),
    ("TrafficPolicyInstanceId", "a record with a health check or a traffic policy"),
];

/// A hosted zone; nothing is asked before its first use.
#[derive(Debug)]
pub struct HostedZone {
    id: String,
    api: Api,
}

/// The type of an address record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
}

/// A plain ("simple") record set of one name and one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSet {
    /// How long resolvers may keep it.
    pub ttl: Duration,
    /// Its values.
    pub addresses: BTreeSet<IpAddr>,
}

/// What a hosted zone has under one name and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A plain record set.
    Plain(RecordSet),
    /// One that a plain one must not replace, or cannot; what it is, for people.
    Special(&'static str),
}

impl HostedZone {
    /// The hosted zone of that ID; each operation is over within `timeout`.
    pub fn new(id: &str, timeout: Duration) -> Self {
        Self { id: id.into(), api: Api::new(ROUTE_53, timeout, ATTEMPTS) }
    }

    /// The record set of that name and type (ListResourceRecordSets).
    ///
    /// # Errors
    ///
    /// [`AwsError`].
    pub async fn get(&self, name: &str, kind: RecordKind) -> Result<Found, AwsError> {
        let answer = self.api.ask(&self.list(name, kind)).await?.map_err(Refusal::into_error)?;
        let first = first(&answer).map_err(|error| self.api.nonsense(&error))?;
        // The list starts there and goes on with whatever comes next.
        let set = first.filter(|set| set.is(name, kind));
        Ok(set.map_or(Found::Nothing, Listed::found))
    }

    /// In one step, makes these addresses the only ones of the name's A and of its AAAA record set,
    /// as far as there are any of that type, and deletes those `stale` record sets, which are of
    /// the other type and must be just as they are (ChangeResourceRecordSets).
    ///
    /// # Errors
    ///
    /// [`AwsError`]; its code is `InvalidChangeBatch` if the name has a record set that a plain one
    /// cannot stand beside, or if a stale one is no more as it was.
    pub async fn upsert(
        &self,
        name: &str,
        ttl: Duration,
        addresses: &[IpAddr],
        stale: &[(RecordKind, RecordSet)],
    ) -> Result<(), AwsError> {
        let change = Request::xml(self.path(), changes(name, ttl, addresses, stale));
        self.api.ask(&change).await?.map_err(Refusal::into_error)?;
        Ok(())
    }

    fn list(&self, name: &str, kind: RecordKind) -> Request {
        // Route 53 keeps names in lower case, and the list is in their order.
        let start = name.to_ascii_lowercase();
        let start = utf8_percent_encode(&start, NON_ALPHANUMERIC);
        let (path, kind) = (self.path(), kind.as_str());
        Request::get(format!("{path}?maxitems=1&name={start}&type={kind}"))
    }

    fn path(&self) -> String {
        let id = utf8_percent_encode(&self.id, NON_ALPHANUMERIC);
        format!("/2013-04-01/hostedzone/{id}/rrset")
    }
}

impl RecordKind {
    /// Both, in Route 53's order.
    pub const ALL: [Self; 2] = [Self::A, Self::Aaaa];

    /// The type of the record that holds this address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::A } else { Self::Aaaa }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
        }
    }
}

/// A record set of any kind, as it is listed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Listed {
    name: String,
    kind: String,
    ttl: Option<u64>,
    values: Vec<String>,
    special: BTreeSet<&'static str>,
}

// === impl Listed ===

impl Listed {
    fn read(set: &mut ScopedDecoder<'_, '_>) -> Result<Self, XmlDecodeError> {
        let mut listed = Self::default();
        while let Some(mut element) = set.next_tag() {
            let name = element.start_el().local().to_owned();
            match &*name {
                "Name" => listed.name = text(&mut element)?,
                "Type" => listed.kind = text(&mut element)?,
                "TTL" => listed.ttl = text(&mut element)?.parse().ok(),
                "ResourceRecords" => {
                    while let Some(mut record) = element.next_tag() {
                        while let Some(mut value) = record.next_tag() {
                            listed.values.push(text(&mut value)?);
                        }
                    }
                }
                _ => {
                    let known = SPECIAL.iter().find(|(special, _)| *special == name);
                    listed.special.extend(known.map(|(special, _)| *special));
                }
            }
        }
        Ok(listed)
    }

    fn is(&self, name: &str, kind: RecordKind) -> bool {
        is_same_name(&self.name, name) && self.kind == kind.as_str()
    }

    fn found(self) -> Found {
        let special = SPECIAL.iter().find(|(element, _)| self.special.contains(element));
        if let Some((_, what)) = special {
            return Found::Special(what);
        }
        let addresses = self.values.iter().filter_map(|value| value.parse().ok());
        Found::Plain(RecordSet {
            ttl: self.ttl.map_or(NO_TTL, Duration::from_secs),
            addresses: addresses.collect(),
        })
    }
}

/// The first record set of a list, which is in an answer to ListResourceRecordSets.
fn first(answer: &str) -> Result<Option<Listed>, XmlDecodeError> {
    let mut document = Document::new(answer);
    let mut root = document.root_element()?;
    let (mut first, mut is_list, mut is_whole) = (None, false, false);
    while let Some(mut element) = root.next_tag() {
        match element.start_el().local() {
            "ResourceRecordSets" => {
                is_list = true;
                first = element.next_tag().map(|mut set| Listed::read(&mut set)).transpose()?;
            }
            // It comes after the list, always.
            "IsTruncated" => is_whole = true,
            _ => {}
        }
    }
    if is_list && is_whole { Ok(first) } else { Err(XmlDecodeError::custom("this is no list")) }
}

fn text(element: &mut ScopedDecoder<'_, '_>) -> Result<String, XmlDecodeError> {
    Ok(try_data(element)?.trim().to_owned())
}

/// A request to change record sets.
fn changes(
    name: &str,
    ttl: Duration,
    addresses: &[IpAddr],
    stale: &[(RecordKind, RecordSet)],
) -> String {
    let mut xml = String::new();
    let mut document = XmlWriter::new(&mut xml);
    let root = document.start_el("ChangeResourceRecordSetsRequest");
    let mut root = root.write_ns(NAMESPACE, None).finish();
    let mut batch = root.start_el("ChangeBatch").finish();
    leaf(&mut batch, "Comment", "ftpgate: clients go to the active node");
    let mut changes = batch.start_el("Changes").finish();
    for (kind, set) in stale {
        change(&mut changes, "DELETE", name, *kind, set);
    }
    for kind in RecordKind::ALL {
        let addresses = addresses.iter().copied().filter(|&ip| RecordKind::of(ip) == kind);
        let set = RecordSet { ttl, addresses: addresses.collect() };
        if !set.addresses.is_empty() {
            change(&mut changes, "UPSERT", name, kind, &set);
        }
    }
    changes.finish();
    batch.finish();
    root.finish();
    xml
}

fn change(
    changes: &mut ScopeWriter<'_, '_>,
    action: &str,
    name: &str,
    kind: RecordKind,
    set: &RecordSet,
) {
    let mut change = changes.start_el("Change").finish();
    leaf(&mut change, "Action", action);
    let mut element = change.start_el("ResourceRecordSet").finish();
    leaf(&mut element, "Name", name);
    leaf(&mut element, "Type", kind.as_str());
    leaf(&mut element, "TTL", &set.ttl.as_secs().to_string());
    let mut records = element.start_el("ResourceRecords").finish();
    for address in &set.addresses {
        let mut record = records.start_el("ResourceRecord").finish();
        leaf(&mut record, "Value", &address.to_string());
    }
}

/// An element of text, which is escaped.
fn leaf(parent: &mut ScopeWriter<'_, '_>, name: &str, text: &str) {
    parent.start_el(name).finish().data(text);
}

/// As DNS compares names; Route 53 answers with the dot at the end.
fn is_same_name(a: &str, b: &str) -> bool {
    let bare = |name| str::strip_suffix(name, ".").unwrap_or(name);
    bare(a).eq_ignore_ascii_case(bare(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the API reference shows an answer.
    fn list(sets: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
            <ListResourceRecordSetsResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">
            <ResourceRecordSets>{sets}</ResourceRecordSets><IsTruncated>true</IsTruncated>
            <MaxItems>1</MaxItems><NextRecordName>www.example.com.</NextRecordName>
            <NextRecordType>A</NextRecordType></ListResourceRecordSetsResponse>"
        )
    }

    fn set(content: &str) -> String {
        format!(
            "<ResourceRecordSet><Name>ftp.example.com.</Name><Type>A</Type>{content}</ResourceRecordSet>"
        )
    }

    fn found(content: &str) -> Found {
        first(&list(&set(content))).unwrap().unwrap().found()
    }

    fn v4() -> IpAddr {
        "10.0.0.1".parse().unwrap()
    }

    fn v6() -> IpAddr {
        "fd00::1".parse().unwrap()
    }

    #[test]
    fn names_are_compared_as_dns_does() {
        assert!(is_same_name("FTP.example.com.", "ftp.example.com"));
        assert!(!is_same_name("ftp2.example.com.", "ftp.example.com"));
        assert!(!is_same_name("www.ftp.example.com.", "ftp.example.com"));
    }

    #[test]
    fn a_list_is_asked_for_from_the_name_on() {
        let zone = HostedZone::new("Z1PA6795UKMFR9", Duration::from_secs(1));
        let request = zone.list("FTP.example.com", RecordKind::Aaaa);
        let expected = "/2013-04-01/hostedzone/Z1PA6795UKMFR9/rrset?maxitems=1&name=ftp%2Eexample%2Ecom&type=AAAA";
        assert_eq!(request.path(), expected);
    }

    #[test]
    fn a_plain_record_set_is_read_from_a_list() {
        let records = "<TTL>60</TTL><ResourceRecords>
            <ResourceRecord><Value>10.0.0.2</Value></ResourceRecord>
            <ResourceRecord><Value>10.0.0.1</Value></ResourceRecord></ResourceRecords>";
        let listed = first(&list(&(set(records) + &set("<TTL>1</TTL>")))).unwrap().unwrap();
        assert!(listed.is("ftp.example.com", RecordKind::A));
        assert!(!listed.is("ftp.example.com", RecordKind::Aaaa));
        assert!(!listed.is("a.ftp.example.com", RecordKind::A));
        let addresses = BTreeSet::from([v4(), "10.0.0.2".parse().unwrap()]);
        let ttl = Duration::from_secs(60);
        assert_eq!(listed.found(), Found::Plain(RecordSet { ttl, addresses }));
        assert_eq!(first(&list("")).unwrap(), None);
    }

    /// Else a record that is there would be taken for none.
    #[test]
    fn an_answer_that_is_no_whole_list_is_an_error() {
        let whole = list(&set("<TTL>60</TTL>"));
        let (cut, _) = whole.split_once("<TTL>").unwrap();
        for answer in ["", "<html></html>", cut, "{\"ResourceRecordSets\": []}"] {
            assert!(first(answer).is_err(), "{answer}");
        }
    }

    #[test]
    fn what_is_not_plain_is_told_apart() {
        let alias = "<AliasTarget><HostedZoneId>Z1</HostedZoneId><DNSName>x.</DNSName>
            <EvaluateTargetHealth>false</EvaluateTargetHealth></AliasTarget>";
        assert_eq!(found(alias), Found::Special("an alias"));
        let failover = "<SetIdentifier>a</SetIdentifier><Failover>PRIMARY</Failover><TTL>5</TTL>
            <HealthCheckId>1</HealthCheckId>";
        assert_eq!(found(failover), Found::Special("a failover record"));
        let weighted = "<SetIdentifier>a</SetIdentifier><Weight>1</Weight><TTL>5</TTL>";
        assert_eq!(found(weighted), Found::Special("a record with a set identifier"));
        let checked = "<TTL>5</TTL><HealthCheckId>1</HealthCheckId>";
        let expected = Found::Special("a record with a health check or a traffic policy");
        assert_eq!(found(checked), expected);
    }

    #[test]
    fn a_change_upserts_each_type_that_has_an_address() {
        let ttl = Duration::from_secs(5);
        let change = |action: &str, kind: &str, ttl: u32, address: &str| {
            format!(
                "<Change><Action>{action}</Action><ResourceRecordSet><Name>ftp.example.com</Name>\
                 <Type>{kind}</Type><TTL>{ttl}</TTL><ResourceRecords><ResourceRecord>\
                 <Value>{address}</Value></ResourceRecord></ResourceRecords></ResourceRecordSet></Change>"
            )
        };
        let request = |changes: [String; 2]| {
            format!(
                "<ChangeResourceRecordSetsRequest xmlns=\"{NAMESPACE}\"><ChangeBatch>\
                 <Comment>ftpgate: clients go to the active node</Comment>\
                 <Changes>{}</Changes></ChangeBatch></ChangeResourceRecordSetsRequest>",
                changes.concat()
            )
        };
        let both = changes("ftp.example.com", ttl, &[v4(), v6()], &[]);
        let upserts =
            [change("UPSERT", "A", 5, "10.0.0.1"), change("UPSERT", "AAAA", 5, "fd00::1")];
        assert_eq!(both, request(upserts));

        let stale = RecordSet { ttl: Duration::from_secs(60), addresses: BTreeSet::from([v6()]) };
        let one = changes("ftp.example.com", ttl, &[v4()], &[(RecordKind::Aaaa, stale)]);
        let expected =
            [change("DELETE", "AAAA", 60, "fd00::1"), change("UPSERT", "A", 5, "10.0.0.1")];
        assert_eq!(one, request(expected));
        assert!(changes("a<b>&c", ttl, &[v4()], &[]).contains("<Name>a&lt;b&gt;&amp;c</Name>"));
    }

    #[test]
    fn both_forms_of_errors_are_understood() {
        let error = |code: &str| {
            format!(
                "<?xml version=\"1.0\"?><ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>Sender</Type>
                <Code>{code}</Code><Message>No hosted zone found with ID: Z1</Message></Error>
                <RequestId>b25f48e8-84fd-11e6-80d9-574e0c4664cb</RequestId></ErrorResponse>"
            )
        };
        let unfit = format!(
            "<?xml version=\"1.0\"?><InvalidChangeBatch xmlns=\"{NAMESPACE}\"><Messages>
            <Message>Tried to create resource record set duplicate.example.com. type A, but it already exists</Message>
            </Messages><RequestId>b25f48e8-84fd-11e6-80d9-574e0c4664cb</RequestId></InvalidChangeBatch>"
        );
        for (status, answer, code) in [
            (404, error("NoSuchHostedZone"), "NoSuchHostedZone"),
            (400, error("Throttling"), "Throttling"),
            (400, error("InvalidChangeBatch"), "InvalidChangeBatch"),
            (400, unfit, "InvalidChangeBatch"),
            (503, "<html>".into(), "HTTP 503"),
        ] {
            let refused = Refusal::of(ROUTE_53, status, &answer).into_error();
            assert_eq!((refused.code(), refused.status()), (Some(code), Some(status)), "{answer}");
        }
    }
}
