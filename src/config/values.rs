//! How single values are read: what is wrong with one is said with what to write instead.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use toml::Spanned;
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::{EndpointAddress, PassiveAddress, Zone};

/// RFC 959 3.2.
const FTP_PORT: u16 = 21;
/// Bytes a second that are worth being called a rate.
const LEAST_RATE: u64 = 1024;
/// RFC 1035 4.2.
const DNS_PORT: u16 = 53;

/// Longer than anybody waits, and as far as every clock can count.
const LONGEST: Duration = Duration::from_secs(1000 * 366 * 86_400);

/// `"8192-8200"` or `"8192"`.
#[derive(Debug, Clone)]
pub(super) struct Ports(pub(super) RangeInclusive<u16>);

/// A fault in one value: the second line of the message becomes the hint.
fn fault<E: serde::de::Error>(message: &str, hint: &str) -> E {
    E::custom(format!("{message}\n{hint}"))
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let hint = "write a number and a unit in quotes, such as \"500ms\", \"30s\", \"5m\" or \"1h\"";
    let Ok(text) = String::deserialize(deserializer) else {
        return Err(fault("a duration without a unit", hint));
    };
    match humantime::parse_duration(&text) {
        Ok(Duration::ZERO) => Err(fault(
            "a duration of zero",
            "write how long to wait; there is no way to switch this off",
        )),
        Ok(duration) if duration > LONGEST => {
            Err(fault(&format!("`{text}` is longer than 1000 years"), "write how long to wait"))
        }
        Ok(duration) => Ok(duration),
        Err(_) => Err(fault(&format!("`{text}` is no duration"), hint)),
    }
}

/// The same where none at all makes sense.
pub(super) fn duration_or_zero<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer).unwrap_or_default();
    let duration = humantime::parse_duration(&text).ok().filter(|duration| *duration <= LONGEST);
    duration.ok_or_else(|| {
        fault(
            "this is no duration",
            "write a number and a unit in quotes, such as \"1s\" or \"0s\"",
        )
    })
}

/// Bytes a second: `"10MiB"`.
pub(super) fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer).unwrap_or_default();
    match bytes(&text) {
        Some(rate) if rate >= LEAST_RATE => Ok(rate),
        Some(_) => Err(fault(
            "a rate of less than 1KiB a second",
            "files would never arrive: write more, or leave the key out for no limit",
        )),
        None => Err(fault(
            &format!("`{text}` is no rate"),
            "write bytes a second in quotes, such as \"500KiB\", \"10MiB\" or \"1GiB\"",
        )),
    }
}

/// Bytes: `"4MiB"`.
pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer).unwrap_or_default();
    bytes(&text).ok_or_else(|| {
        fault(
            &format!("`{text}` is no size"),
            "write bytes in quotes, such as \"500KiB\", \"4MiB\" or \"1GiB\"",
        )
    })
}

/// A number and a unit.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or_default();
    let unit: u64 = match unit.trim() {
        "B" => 1,
        "kB" => 1000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return None,
    };
    unit.checked_mul(number.parse().ok()?)
}

pub(super) fn address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Spanned<SocketAddr>, D::Error> {
    let text = Spanned::<String>::deserialize(deserializer)?;
    match text.get_ref().parse() {
        Ok(address) => Ok(Spanned::new(text.span(), address)),
        Err(_) => Err(fault(
            &format!("`{}` is no address with a port", text.get_ref()),
            "write an IP address and a port, such as \"10.2.3.10:21\" or \"[::]:21\"; names are not resolved here",
        )),
    }
}

/// `"10.2.3.10:21"`, `"[2001:db8::1]:21"` or `"name:21"`; the port may be left out.
pub(super) fn endpoint_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Spanned<EndpointAddress>, D::Error> {
    let text = Spanned::<String>::deserialize(deserializer)?;
    let span = text.span();
    let text = text.into_inner();
    if let Some(address) = socket_address(&text, FTP_PORT) {
        return Ok(Spanned::new(span, EndpointAddress::Fixed(address)));
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().ok()),
        None => (text.as_str(), Some(FTP_PORT)),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    match port {
        Some(port) if port > 0 && is_dns_name(name) => {
            Ok(Spanned::new(span, EndpointAddress::Name { name: name.to_ascii_lowercase(), port }))
        }
        _ => Err(fault(
            &format!("`{text}` is no address and no name"),
            "write an IP address or a DNS name, and a port: \"10.2.3.10:21\", \"[2001:db8::10]:21\" or \"ftp.example.internal:21\"",
        )),
    }
}

/// Name servers; the port may be left out.
pub(super) fn name_servers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SocketAddr>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts
        .iter()
        .map(|text| {
            socket_address(text, DNS_PORT).ok_or_else(|| {
                fault(
                    &format!("`{text}` is no address of a name server"),
                    "write an IP address and, if it is not 53, a port: \"10.2.0.2\" or \"127.0.0.1:5353\"",
                )
            })
        })
        .collect()
}

/// The HTTP address of another node.
pub(super) fn peer<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 && !address.ip().is_unspecified() => Ok(Some(address)),
        _ => Err(fault(
            &format!("`{text}` is no address of the other node"),
            "write the address and port of its [http], such as \"10.2.2.10:9121\"",
        )),
    }
}

/// A DNS name, in lower case and without the dot at its end.
pub(super) fn dns_name<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let name = text.strip_suffix('.').unwrap_or(&text);
    if is_dns_name(name) {
        return Ok(Some(name.to_ascii_lowercase()));
    }
    Err(fault(
        &format!("`{text}` is no DNS name"),
        "write the name that clients connect to, such as \"ftp.example.internal\"",
    ))
}

/// Addresses that clients can connect to.
pub(super) fn addresses<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Spanned<Vec<IpAddr>>, D::Error> {
    #[derive(Deserialize)]
    struct Address(#[serde(deserialize_with = "named_address")] IpAddr);
    let list = Spanned::<Vec<Address>>::deserialize(deserializer)?;
    let span = list.span();
    Ok(Spanned::new(span, list.into_inner().into_iter().map(|Address(address)| address).collect()))
}

/// Networks; an address alone is a network of one.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let network = |text: &String| {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| {
            fault(
                &format!("`{text}` is no network"),
                "write an address and the length of its prefix, such as \"10.0.0.0/24\"",
            )
        })
    };
    texts.iter().map(network).collect()
}

/// An IP address, with that port if it has none.
fn socket_address(text: &str, port: u16) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    text.parse().ok().or_else(|| Some(SocketAddr::new(bare.parse().ok()?, port)))
}

/// Whether it is a host name as RFC 1123 2.1 has it, with underscores let pass. Digits alone are
/// a mistyped address.
fn is_dns_name(name: &str) -> bool {
    let good = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253
        && name.split('.').all(good)
        && last.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// A zone's name, or "auto".
pub(super) fn zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zone, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "auto" => Ok(Zone::Auto),
        "" => Err(fault(
            "a zone without a name",
            "write its name, such as \"ap-northeast-1a\", or \"auto\", or leave the key out",
        )),
        _ => Ok(Zone::Named(text)),
    }
}

pub(super) fn named_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<IpAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => Err(fault(
            &format!("`{text}` is no address that a client can connect to"),
            "write the address under which clients reach this node, or \"auto\"",
        )),
        Ok(address) => Ok(address),
        Err(_) => Err(fault(
            &format!("`{text}` is no IP address"),
            "write an IP address, such as \"203.0.113.7\"",
        )),
    }
}

pub(super) fn passive_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<PassiveAddress, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "auto" {
        return Ok(PassiveAddress::Auto);
    }
    named_address(serde::de::value::StringDeserializer::new(text)).map(PassiveAddress::Fixed)
}

pub(super) fn filter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    // A word alone that is no level would be taken for the one part that logs, at every level.
    let words = text.split(',').filter(|word| !word.contains('='));
    let levels = words.map(|word| word.trim().parse::<LevelFilter>()).all(|level| level.is_ok());
    if levels && text.parse::<Targets>().is_ok() {
        return Ok(text);
    }
    Err(fault(
        &format!("`{text}` is no log level"),
        "write error, warn, info, debug or trace, or one for a part, such as \"info,ftpgate=debug\"",
    ))
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hint = "write \"8192-8200\", the lower port first, from 1 to 65535";
        let Ok(text) = String::deserialize(deserializer) else {
            return Err(D::Error::custom(format!("a port range must be in quotes\n{hint}")));
        };
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(Self(first..=last)),
            _ => Err(fault(&format!("`{text}` is no port range"), hint)),
        }
    }
}
