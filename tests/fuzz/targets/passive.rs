//! Any text as the argument of PORT and EPRT and in a 227 and a 229: an address that is read is the
//! one that stands there, and is read again as it is written.
#![no_main]

use ftpgate::ftp::hostport::{
    format_eprt, format_port, parse_227, parse_229, parse_eprt, parse_port, reply_227, reply_229,
};
use ftpgate::ftp::reply::{Replies, Reply};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let numbers = numbers(text);
    if let Some(address) = parse_port(text) {
        let [h1, h2, h3, h4] = address.ip().octets();
        let [p1, p2] = address.port().to_be_bytes();
        assert_eq!(numbers, [h1, h2, h3, h4, p1, p2].map(u64::from));
        assert!(address.port() != 0);
        assert_eq!(parse_port(format_port(address).as_bytes()), Some(address));
    }
    if let Ok(address) = parse_eprt(text) {
        assert_eq!(numbers.last(), Some(&u64::from(address.port())));
        assert_eq!(numbers.first(), Some(if address.is_ipv4() { &1 } else { &2 }));
        assert!(address.port() != 0);
        assert_eq!(parse_eprt(format_eprt(address).as_bytes()), Ok(address));
    }
    if let Some(reply) = reply(b"227 ", text)
        && let Some(address) = parse_227(&reply)
    {
        let [h1, h2, h3, h4] = address.ip().octets();
        let [p1, p2] = address.port().to_be_bytes();
        assert!(numbers.starts_with(&[h1, h2, h3, h4, p1, p2].map(u64::from)));
        assert!(address.port() != 0);
        assert_eq!(parse_227(&reply_227(address)), Some(address));
    }
    if let Some(reply) = reply(b"229 ", text)
        && let Some(port) = parse_229(&reply)
    {
        assert!(port != 0 && numbers.contains(&u64::from(port)));
        assert_eq!(parse_229(&reply_229(port)), Some(port));
    }
});

/// One line of this code with that text.
fn reply(code: &[u8], text: &[u8]) -> Option<Reply> {
    let mut replies = Replies::new(8192);
    replies.push(&[code, text, b"\r\n"].concat());
    let reply = replies.next_reply()?.ok()?;
    (!text.contains(&b'\n')).then_some(reply)
}

/// All numbers of the text, however long.
fn numbers(text: &[u8]) -> Vec<u64> {
    let digits = text.split(|byte| !byte.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let number = |digits: &[u8]| {
        digits.iter().fold(0u64, |number, digit| {
            number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
        })
    };
    digits.map(number).collect()
}
