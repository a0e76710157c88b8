//! Until when a certificate is good, which rustls does not say of one's own.
//!
//! The few fields before it (RFC 5280 4.1) are stepped over here, as a library for X.509 would bring
//! a dozen crates for this one date.

use std::time::SystemTime;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]`, the version.
const VERSION: u8 = 0xa0;

/// `notAfter` of a certificate in DER; nothing if it cannot be made out, or is before 1970.
pub(super) fn not_after(certificate: &[u8]) -> Option<SystemTime> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (signed, _) = element(certificate, SEQUENCE)?;
    let rest = element(signed, VERSION).map_or(signed, |(_, rest)| rest);
    let (_serial, rest) = element(rest, INTEGER)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    let (_issuer, rest) = element(rest, SEQUENCE)?;
    let (validity, _) = element(rest, SEQUENCE)?;
    let (_not_before, rest) = time(validity)?;
    let (not_after, _) = time(rest)?;
    humantime::parse_rfc3339(&not_after).ok()
}

/// A time as RFC 3339 writes it, and what comes behind it.
fn time(der: &[u8]) -> Option<(String, &[u8])> {
    let (text, rest, century) = match element(der, UTC_TIME) {
        // RFC 5280 4.1.2.5.1: 50 is 1950, 49 is 2049.
        Some((text, rest)) => (text, rest, if *text.first()? < b'5' { "20" } else { "19" }),
        None => element(der, GENERALIZED_TIME).map(|(text, rest)| (text, rest, ""))?,
    };
    let text = format!("{century}{}", std::str::from_utf8(text).ok()?);
    let (year, text) = text.split_at_checked(4)?;
    let [month, day, hour, minute, second] =
        [0, 2, 4, 6, 8].map(|at| text.get(at..at + 2).unwrap_or_default());
    // DER has seconds and Z, and nothing else.
    (text.get(10..) == Some("Z"))
        .then(|| (format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z"), rest))
}

/// The content of the first element, if it is of that kind, and what comes behind it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (_, rest) = der.split_first().filter(|(found, _)| **found == tag)?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let digits = usize::from(*first & 0x7f);
        // No certificate is as long as four digits can say.
        let (digits, rest) = rest.split_at_checked(digits).filter(|_| (1..=4).contains(&digits))?;
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(year: i32, common_name: &str) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["ftp.example.com".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.not_after = date_time_ymd(year, 2, 28);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn dates_of_both_kinds_are_read() {
        for name in ["short", &"long".repeat(100)] {
            for year in [1999, 2027, 2049, 2050, 2999] {
                let expected = humantime::parse_rfc3339(&format!("{year}-02-28T00:00:00Z"));
                assert_eq!(not_after(&certificate(year, name)), expected.ok(), "{year}");
            }
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_date() {
        let whole = certificate(2030, "cut");
        for length in 0..whole.len() {
            let (cut, _) = whole.split_at(length);
            assert_eq!(not_after(cut), None, "{length} bytes");
        }
        // Whatever one byte says, nothing is read behind the end.
        let mut changed = whole.clone();
        for at in 0..whole.len() {
            for byte in [0, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                changed[at] = byte;
                let _ = not_after(&changed);
            }
            changed[at] = whole[at];
        }
    }
}
