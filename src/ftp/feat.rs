//! What a FEAT reply (RFC 2389) may claim behind this gateway.
//!
//! A client believes FEAT, so it must tell what the gateway with this upstream offers: Transfer
//! Family lists MODE Z and refuses it, stock Apache FtpServer leaves EPSV out and serves it.

use super::reply::Reply;

/// Features that the gateway does not offer, whatever the upstream says.
const HIDDEN: [&[u8]; 7] = [b"AUTH", b"CCC", b"EPRT", b"MODE", b"PBSZ", b"PROT", b"LPRT"];

/// The upstream's 211 with the hidden features taken out and EPSV put in; any other reply as it is.
pub fn edit(reply: Reply) -> Reply {
    let lines: Vec<&[u8]> = reply.bytes().split_inclusive(|&byte| byte == b'\n').collect();
    let [first, features @ .., last] = lines.as_slice() else { return reply };
    if reply.code() != 211 {
        return reply;
    }
    let mut bytes = first.to_vec();
    for line in features.iter().filter(|line| !HIDDEN.iter().any(|&hidden| names(line, hidden))) {
        bytes.extend_from_slice(line);
    }
    if !features.iter().any(|line| names(line, b"EPSV")) {
        bytes.extend_from_slice(b" EPSV\r\n");
    }
    bytes.extend_from_slice(last);
    Reply::from_bytes(211, bytes)
}

/// Whether this line of the list is about that feature: the leading blank of RFC 2389 may be
/// missing or be the code and a hyphen.
fn names(line: &[u8], feature: &[u8]) -> bool {
    let line = line.strip_prefix(b"211-").unwrap_or(line);
    let word =
        line.trim_ascii().split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    word.eq_ignore_ascii_case(feature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_list_tells_what_the_gateway_offers() {
        let upstream = "211-Extensions supported\r\n SIZE\r\n REST STREAM\r\n AUTH SSL\r\n AUTH TLS\r\n MODE Z\r\n EPRT\r\n UTF8\r\n211 End\r\n";
        let edited = edit(Reply::from_bytes(211, upstream.into()));
        let expected =
            "211-Extensions supported\r\n SIZE\r\n REST STREAM\r\n UTF8\r\n EPSV\r\n211 End\r\n";
        assert_eq!(String::from_utf8_lossy(edited.bytes()), expected);
    }

    #[test]
    fn what_needs_no_change_is_not_changed() {
        for (code, text) in [
            (211, "211-Features:\n EPSV\n MLST size*;type*;\n211 End\n"),
            (211, "211 no features\r\n"),
            (502, "502 Command not implemented.\r\n"),
            (530, "530-a\r\n AUTH\r\n530 b\r\n"),
        ] {
            let reply = Reply::from_bytes(code, text.into());
            assert_eq!(edit(reply.clone()), reply);
        }
    }
}
