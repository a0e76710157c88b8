//! The address spellings of FTP: 227 and PORT (RFC 959), 229 and EPRT (RFC 2428).
//!
//! Reading is generous with spelling and strict with meaning: parentheses may be missing (RFC
//! 1123 4.1.2.6), but a number over 255, a port 0 or a missing field is no address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use super::reply::Reply;

/// The address that the last line of a 227 reply names.
pub fn parse_227(reply: &Reply) -> Option<SocketAddrV4> {
    let text = reply.last_line();
    let start = text.iter().position(u8::is_ascii_digit)?;
    let (address, _rest) = six_numbers(text.get(start..)?)?;
    Some(address)
}

/// The port that the last line of a 229 reply names. The delimiter is any printable character,
/// the protocol and address fields may be filled, the parentheses may be missing.
pub fn parse_229(reply: &Reply) -> Option<u16> {
    let text = reply.last_line();
    let start = match text.iter().position(|&byte| byte == b'(') {
        Some(at) => at + 1,
        // Without parentheses, the fields start at the first character that stands three times.
        None => text.windows(3).position(
            |three| matches!(three, [a, b, c] if a == b && b == c && a.is_ascii_punctuation()),
        )?,
    };
    let (&delimiter, fields) = text.get(start..)?.split_first()?;
    if !delimiter.is_ascii_graphic() || delimiter.is_ascii_digit() {
        return None;
    }
    let mut fields = fields.split(|&byte| byte == delimiter);
    let port = fields.nth(2).and_then(number)?;
    // The delimiter must also close the port, or the number may be cut.
    fields.next()?;
    u16::try_from(port).ok().filter(|&port| port != 0)
}

/// The argument of PORT: exactly six numbers.
pub fn parse_port(argument: &[u8]) -> Option<SocketAddrV4> {
    let (address, rest) = six_numbers(argument.trim_ascii())?;
    rest.is_empty().then_some(address)
}

/// Why the argument of EPRT is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedEprt {
    /// RFC 2428 2: answered 522.
    #[error("a network protocol other than 1 (IPv4) and 2 (IPv6)")]
    Protocol,
    /// Answered 501.
    #[error("not in the form |protocol|address|port|")]
    Syntax,
}

/// The argument of EPRT, `|1|132.235.1.2|6275|` or `|2|1080::8:800:200C:417A|5282|`.
pub fn parse_eprt(argument: &[u8]) -> Result<SocketAddr, MalformedEprt> {
    let argument = argument.trim_ascii();
    let (delimiter, fields) = argument.split_first().ok_or(MalformedEprt::Syntax)?;
    if !delimiter.is_ascii_graphic() || delimiter.is_ascii_alphanumeric() {
        return Err(MalformedEprt::Syntax);
    }
    let fields: Vec<&[u8]> = fields.split(|byte| byte == delimiter).collect();
    let [protocol, address, port, b""] = fields.as_slice() else {
        return Err(MalformedEprt::Syntax);
    };
    let address = std::str::from_utf8(address).ok().and_then(|text| text.parse::<IpAddr>().ok());
    let port = number(port).and_then(|port| u16::try_from(port).ok()).filter(|&port| port != 0);
    match (number(protocol), address, port) {
        (Some(1), Some(ip @ IpAddr::V4(_)), Some(port))
        | (Some(2), Some(ip @ IpAddr::V6(_)), Some(port)) => Ok(SocketAddr::new(ip, port)),
        (Some(1 | 2) | None, _, _) => Err(MalformedEprt::Syntax),
        (Some(_), _, _) => Err(MalformedEprt::Protocol),
    }
}

/// `227 Entering Passive Mode (h1,h2,h3,h4,p1,p2)`, spelt as Transfer Family does.
pub fn reply_227(address: SocketAddrV4) -> Reply {
    let [h1, h2, h3, h4] = address.ip().octets();
    let [p1, p2] = address.port().to_be_bytes();
    Reply::new(227, format_args!("Entering Passive Mode ({h1},{h2},{h3},{h4},{p1},{p2})"))
}

/// `229 Entering Passive Mode (|||port|)`, spelt as Transfer Family does.
pub fn reply_229(port: u16) -> Reply {
    Reply::new(229, format_args!("Entering Passive Mode (|||{port}|)"))
}

/// `h1,h2,h3,h4,p1,p2`, the argument of PORT.
pub fn format_port(address: SocketAddrV4) -> String {
    let [h1, h2, h3, h4] = address.ip().octets();
    let [p1, p2] = address.port().to_be_bytes();
    format!("{h1},{h2},{h3},{h4},{p1},{p2}")
}

/// `|1|address|port|` or `|2|address|port|`, the argument of EPRT.
pub fn format_eprt(address: SocketAddr) -> String {
    let protocol = if address.is_ipv4() { 1 } else { 2 };
    format!("|{protocol}|{}|{}|", address.ip(), address.port())
}

/// Six numbers with commas (and blanks) between, and what follows them.
fn six_numbers(text: &[u8]) -> Option<(SocketAddrV4, &[u8])> {
    let mut rest = text;
    let mut numbers = [0u8; 6];
    for (index, slot) in numbers.iter_mut().enumerate() {
        if index > 0 {
            rest = rest.trim_ascii_start().strip_prefix(b",")?.trim_ascii_start();
        }
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, after) = rest.split_at_checked(digits)?;
        *slot = u8::try_from(number(digits)?).ok()?;
        rest = after;
    }
    let [h1, h2, h3, h4, p1, p2] = numbers;
    let port = u16::from_be_bytes([p1, p2]);
    (port != 0).then(|| (SocketAddrV4::new(Ipv4Addr::new(h1, h2, h3, h4), port), rest))
}

/// A decimal number of digits alone; the standard parser would also take a plus sign.
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_227_is_read_in_every_spelling_seen_in_the_wild() {
        let good = [
            "227 Entering Passive Mode (127,0,0,2,32,5)",
            "227 Entering Passive Mode (127,0,0,2,32,5).",
            "227 Entering Passive Mode 127,0,0,2,32,5",
            "227 =127,0,0,2,32,5",
            "227 Entering Passive Mode ( 127, 0, 0, 2, 32, 5 )",
            "227 ok (127,000,00,002,032,005) port 8197",
        ];
        for line in good {
            let reply = Reply::from_bytes(227, format!("{line}\r\n").into_bytes());
            assert_eq!(parse_227(&reply), Some("127.0.0.2:8197".parse().unwrap()), "{line}");
        }
        let bad = [
            "227 Entering Passive Mode",
            "227 (1,2,3,4,5)",
            "227 (1,2,3,4,256,1)",
            "227 (1,2,3,4,0,0)",
            "227 (1,2,3,,5,6)",
            "227 (1.2.3.4.5.6)",
            "227 (1,2,3,4,99999999999,6)",
        ];
        for line in bad {
            let reply = Reply::from_bytes(227, format!("{line}\r\n").into_bytes());
            assert_eq!(parse_227(&reply), None, "{line}");
        }
    }

    #[test]
    fn a_229_is_read_in_every_spelling_seen_in_the_wild() {
        let good = [
            "229 Entering Extended Passive Mode (|||8197|)",
            "229 Entering Passive Mode (|||8197|)",
            "229 ok (!!!8197!)",
            "229 ok (|1|10.0.0.1|8197|).",
            "229 ok |||8197|",
        ];
        for line in good {
            let reply = Reply::from_bytes(229, format!("{line}\r\n").into_bytes());
            assert_eq!(parse_229(&reply), Some(8197), "{line}");
        }
        for line in [
            "229 ok",
            "229 ()",
            "229 (|||0|)",
            "229 (|||65536|)",
            "229 (|||81",
            "229 (||8197|)",
            "229 (|||+81|)",
        ] {
            let reply = Reply::from_bytes(229, format!("{line}\r\n").into_bytes());
            assert_eq!(parse_229(&reply), None, "{line}");
        }
    }

    #[test]
    fn hostile_port_and_eprt_arguments_are_no_addresses() {
        for argument in [
            "1,2,3,4,5",
            "1,2,3,4,5,6,7",
            "256,1,1,1,1,1",
            "-1,2,3,4,5,6",
            "1,2,3,4,0,0",
            "",
            "a,b,c,d,e,f",
        ] {
            assert_eq!(parse_port(argument.as_bytes()), None, "{argument}");
        }
        for argument in [
            "|1|10.0.0.5|0|",
            "|1|10.0.0.5|65536|",
            "|1|10.0.0.5|99999999999|",
            "|1|10.0.0.5|6000",
            "|1|::1|6000|",
            "|2|10.0.0.5|6000|",
            "",
            "|",
        ] {
            assert_eq!(parse_eprt(argument.as_bytes()), Err(MalformedEprt::Syntax), "{argument}");
        }
        assert_eq!(parse_eprt(b"|3|10.0.0.5|6000|"), Err(MalformedEprt::Protocol));
        assert_eq!(parse_eprt(b"!1!10.0.0.5!6000!"), Ok("10.0.0.5:6000".parse().unwrap()));
        assert_eq!(parse_port(b"010,0,0,5,31,064"), Some("10.0.0.5:8000".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ip in any::<[u8; 4]>(), ip6 in any::<[u8; 16]>(), port in 1u16..) {
            let v4 = SocketAddrV4::new(Ipv4Addr::from(ip), port);
            let v6 = SocketAddr::new(Ipv6Addr::from(ip6).into(), port);
            prop_assert_eq!(parse_227(&reply_227(v4)), Some(v4));
            prop_assert_eq!(parse_229(&reply_229(port)), Some(port));
            prop_assert_eq!(parse_port(format_port(v4).as_bytes()), Some(v4));
            prop_assert_eq!(parse_eprt(format_eprt(v4.into()).as_bytes()), Ok(v4.into()));
            prop_assert_eq!(parse_eprt(format_eprt(v6).as_bytes()), Ok(v6));
        }

        #[test]
        fn arbitrary_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let reply = Reply::from_bytes(227, [b"227 ", &bytes[..], b"\r\n"].concat());
            let _ = (parse_227(&reply), parse_229(&reply), parse_port(&bytes), parse_eprt(&bytes));
        }
    }
}
