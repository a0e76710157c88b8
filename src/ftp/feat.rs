//! What FEAT (RFC 2389) and HELP may claim behind this gateway.
//!
//! A client believes FEAT, so it must tell what the gateway with this upstream offers: Transfer
//! Family lists MODE Z and refuses it, stock Apache FtpServer leaves EPSV out and serves it.

use super::command::Command;
use super::reply::Reply;

/// Features that are the gateway's to offer, whatever the upstream says.
const OURS: [&[u8]; 8] = [b"AUTH", b"CCC", b"EPRT", b"EPSV", b"LPRT", b"MODE", b"PBSZ", b"PROT"];

/// What a listener offers besides passive mode.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offer {
    /// PORT and EPRT.
    pub active: bool,
    /// PBSZ and PROT.
    pub tls: bool,
    /// AUTH, where TLS is not there from the start.
    pub auth: bool,
}

impl Offer {
    /// The lines of FEAT.
    fn features(self) -> impl Iterator<Item = &'static str> {
        [
            (self.tls && self.auth, "AUTH TLS"),
            (self.active, "EPRT"),
            (true, "EPSV"),
            (self.tls, "PBSZ"),
            (self.tls, "PROT"),
        ]
        .into_iter()
        .filter_map(|(offered, line)| offered.then_some(line))
    }

    /// The syntax of a command that is the gateway's, or `None` if it is not offered here.
    fn syntax(self, verb: &str) -> Option<&'static str> {
        match verb {
            "AUTH" => (self.tls && self.auth).then_some("AUTH TLS"),
            "EPRT" => self.active.then_some("EPRT |protocol|address|port|"),
            "EPSV" => Some("EPSV [1|2|ALL]"),
            "PASV" => Some("PASV"),
            "PBSZ" => self.tls.then_some("PBSZ 0"),
            "PORT" => self.active.then_some("PORT h1,h2,h3,h4,p1,p2"),
            "PROT" => self.tls.then_some("PROT P|C"),
            _ => None,
        }
    }
}

/// The answer to FEAT: the upstream's 211 with what is ours told by us; a list of our own if the
/// upstream has none; any other reply as it is.
pub fn edit(reply: Reply, offer: Offer) -> Reply {
    let lines: Vec<&[u8]> = reply.bytes().split_inclusive(|&byte| byte == b'\n').collect();
    let (first, features, last): (&[u8], &[&[u8]], &[u8]) = match (reply.code(), lines.as_slice()) {
        (211, [first, features @ .., last]) => (first, features, last),
        (211 | 500 | 502, _) => (b"211-Features:\r\n", &[], b"211 End\r\n"),
        _ => return reply,
    };
    let mut bytes = first.to_vec();
    for line in features.iter().filter(|line| !OURS.iter().any(|&ours| names(line, ours))) {
        bytes.extend_from_slice(line);
    }
    for feature in offer.features() {
        bytes.extend_from_slice(format!(" {feature}\r\n").as_bytes());
    }
    bytes.extend_from_slice(last);
    Reply::from_bytes(211, bytes)
}

/// The answer to HELP with a command that is ours; `None` if the upstream shall answer.
pub fn help(command: &Command, offer: Offer) -> Option<Reply> {
    let verb = String::from_utf8_lossy(command.argument().trim_ascii()).to_ascii_uppercase();
    let ours = ["AUTH", "CCC", "EPRT", "EPSV", "LPRT", "LPSV", "PASV", "PBSZ", "PORT", "PROT"];
    ours.contains(&verb.as_str()).then(|| match offer.syntax(&verb) {
        Some(syntax) => Reply::new(214, format_args!("Syntax: {syntax}")),
        None => Reply::new(502, format_args!("{verb} is not offered here.")),
    })
}

/// The answer to HELP alone: the upstream's, whose list of commands is its own, with a line that
/// says which are the gateway's.
pub fn edit_help(command: &Command, reply: Reply, offer: Offer) -> Reply {
    if !matches!(reply.code(), 211 | 214) || !command.argument().trim_ascii().is_empty() {
        return reply;
    }
    let code = reply.code();
    let ours = ["PASV", "EPSV", "PORT", "EPRT", "AUTH", "PBSZ", "PROT"];
    let (offered, missing): (Vec<&str>, Vec<&str>) =
        ours.into_iter().partition(|verb| offer.syntax(verb).is_some());
    let mut note = format!(" This gateway offers {}", offered.join(" "));
    if !missing.is_empty() {
        note += &format!(" and not {}", missing.join(" "));
    }
    note += ".\r\n";
    let lines: Vec<&[u8]> = reply.bytes().split_inclusive(|&byte| byte == b'\n').collect();
    let edited = match lines.as_slice() {
        [only] => {
            let text = only.get(4..).unwrap_or(b"\r\n");
            [
                format!("{code}-").as_bytes(),
                text,
                note.as_bytes(),
                format!("{code} End\r\n").as_bytes(),
            ]
            .concat()
        }
        [start @ .., end] => [&start.concat(), note.as_bytes(), end].concat(),
        [] => return reply,
    };
    Reply::from_bytes(code, edited)
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

    const NOTHING: Offer = Offer { active: false, tls: false, auth: false };
    const EVERYTHING: Offer = Offer { active: true, tls: true, auth: true };

    fn edited(code: u16, text: &str, offer: Offer) -> String {
        let reply = edit(Reply::from_bytes(code, text.into()), offer);
        String::from_utf8_lossy(reply.bytes()).into_owned()
    }

    #[test]
    fn a_feature_list_tells_what_the_gateway_offers() {
        let upstream = "211-Extensions supported\r\n SIZE\r\n REST STREAM\r\n AUTH SSL\r\n AUTH TLS\r\n MODE Z\r\n EPRT\r\n UTF8\r\n211 End\r\n";
        let kept = "211-Extensions supported\r\n SIZE\r\n REST STREAM\r\n UTF8\r\n";
        for (offer, ours) in [
            (NOTHING, " EPSV\r\n"),
            (EVERYTHING, " AUTH TLS\r\n EPRT\r\n EPSV\r\n PBSZ\r\n PROT\r\n"),
            (Offer { auth: false, ..EVERYTHING }, " EPRT\r\n EPSV\r\n PBSZ\r\n PROT\r\n"),
        ] {
            assert_eq!(edited(211, upstream, offer), format!("{kept}{ours}211 End\r\n"));
        }
    }

    #[test]
    fn an_upstream_without_features_has_those_of_the_gateway() {
        for (code, text) in [
            (211, "211 no features\r\n"),
            (502, "502 Not implemented.\r\n"),
            (500, "500 What?\r\n"),
        ] {
            let expected = "211-Features:\r\n EPRT\r\n EPSV\r\n211 End\r\n";
            assert_eq!(edited(code, text, Offer { active: true, ..NOTHING }), expected);
        }
        let refused = "530-a\r\n AUTH\r\n530 b\r\n";
        assert_eq!(edited(530, refused, EVERYTHING), refused);
    }

    #[test]
    fn help_says_which_commands_are_the_gateways() {
        let help_of = |line: &str, text: &str| {
            let command = Command::parse(line.as_bytes()).unwrap();
            let code = text[..3].parse().unwrap();
            let reply = edit_help(&command, Reply::from_bytes(code, text.into()), NOTHING);
            String::from_utf8_lossy(reply.bytes()).into_owned()
        };
        let note = " This gateway offers PASV EPSV and not PORT EPRT AUTH PBSZ PROT.\r\n";
        assert_eq!(
            help_of("HELP", "214-Known:\r\n USER PORT\r\n214 ok\r\n"),
            format!("214-Known:\r\n USER PORT\r\n{note}214 ok\r\n")
        );
        assert_eq!(
            help_of("HELP", "214 Ask somebody.\r\n"),
            format!("214-Ask somebody.\r\n{note}214 End\r\n")
        );
        for (line, text) in [("HELP STOR", "214 STOR path\r\n"), ("HELP", "502 No.\r\n")] {
            assert_eq!(help_of(line, text), text);
        }
    }

    #[test]
    fn help_on_a_command_of_the_gateway_is_the_gateways() {
        let code = |line: &str, offer| {
            help(&Command::parse(line.as_bytes()).unwrap(), offer).map(|reply| reply.code())
        };
        assert_eq!(code("HELP auth", EVERYTHING), Some(214));
        assert_eq!(code("HELP AUTH", NOTHING), Some(502));
        assert_eq!(code("HELP LPRT", EVERYTHING), Some(502));
        assert_eq!(code("HELP STOR", EVERYTHING), None);
        assert_eq!(code("HELP", EVERYTHING), None);
    }
}
