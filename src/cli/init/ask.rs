//! Questions on a terminal. Each answer is checked as the file will be, and asked for again if it
//! will not do; an empty one takes what is in brackets.

use std::io::{BufRead, Read as _, Write};
use std::net::IpAddr;

use super::node::{Endpoint, Node, Pair, Steering, own_address, quoted};
use super::{Arguments, LISTEN, Mode, discover};
use crate::cli::node::{Trouble, run};
use crate::config::Config;

/// An answer may have so many bytes,
const LONGEST: u64 = 4096;
/// and a question so many answers.
const MOST: usize = 20;
/// An endpoint and a pair around what is checked.
const ENDPOINT: &str = "[[upstream.endpoint]]\naddress = \"192.0.2.1\"\n";
const LEASE: &str = "[http]\naddress = \"0.0.0.0:9121\"\n[ha]\nmode = \"lease\"\npeer = \"192.0.2.1:9121\"\n\
                     name = \"gw.example\"\n";

/// Who asks and who answers.
#[derive(Debug)]
pub(super) struct Questions<R, W> {
    answers: R,
    questions: W,
}

impl<R: BufRead, W: Write> Questions<R, W> {
    pub(super) fn new(answers: R, questions: W) -> Self {
        Self { answers, questions }
    }

    /// Asks for all that the arguments leave open.
    pub(super) fn node(mut self, given: Arguments) -> Result<Node, Trouble> {
        let (endpoints, is_transfer) = self.endpoints()?;
        let listen = match given.listen.clone() {
            Some(listen) => listen,
            None => self.ask("Where do clients connect to", LISTEN, |text| {
                check(&format!("{ENDPOINT}[[listener]]\naddress = {}", quoted(text)))
            })?,
        };
        let zone = match given.zone.clone() {
            Some(zone) => Some(zone),
            None => {
                self.optional("The zone of this node; auto asks the instance", "auto", |text| {
                    check(&format!("{ENDPOINT}[node]\nzone = {}", quoted(text)))
                })?
            }
        };
        let mode = match given.ha {
            Some(Mode::None) => "none".into(),
            Some(Mode::Lease) => "lease".into(),
            Some(Mode::Dns) => "dns".into(),
            None => self.ask(
                "Two nodes: none, by a lease in S3 (lease), or by Route 53 (dns)",
                "none",
                |text| match text {
                    "none" | "lease" | "dns" => Ok(()),
                    _ => Err("write none, lease or dns".into()),
                },
            )?,
        };
        let pair = match &*mode {
            "none" => None,
            mode => {
                let peer = match given.peer.clone() {
                    Some(peer) => peer,
                    None => self.ask(
                        "The other node's http.address, such as 10.2.2.10:9121",
                        "",
                        |text| check(&format!("{ENDPOINT}[ha]\npeer = {}", quoted(text))),
                    )?,
                };
                let name = match given.name.clone() {
                    Some(name) => name,
                    None => self.ask("The name that clients use", "", |text| {
                        check(&format!("{ENDPOINT}[ha]\nname = {}", quoted(text)))
                    })?,
                };
                Some(if mode == "dns" {
                    Pair { peer, name: Some(name), lease_bucket: None, steering: Steering::Nothing }
                } else {
                    let bucket = match given.lease_bucket.clone() {
                        Some(bucket) => bucket,
                        None => self.ask("The bucket of the lease", "", |text| {
                            check(&format!(
                                "{ENDPOINT}{LEASE}[ha.lease]\nbucket = {}",
                                quoted(text)
                            ))
                        })?,
                    };
                    let steering = self.steering(&given, &listen, &peer)?;
                    Pair { peer, name: Some(name), lease_bucket: Some(bucket), steering }
                })
            }
        };
        Ok(Node { endpoints, is_transfer, listen, zone, pair })
    }

    /// At least one, or those of a server.
    fn endpoints(&mut self) -> Result<(Vec<Endpoint>, bool), Trouble> {
        let first = "An endpoint, ADDRESS or ADDRESS=ZONE, or the ID of a Transfer server (s-...)";
        let mut endpoints = Vec::new();
        let text = self.ask(first, "", |text| match is_server(text) {
            true => Ok(()),
            false => check(&Endpoint::parse(text).table()),
        })?;
        if is_server(&text) {
            return Ok((run(discover::endpoints(&text))?, true));
        }
        endpoints.push(Endpoint::parse(&text));
        while let Some(text) = self.optional("Another endpoint, or nothing", "", |text| {
            check(&Endpoint::parse(text).table())
        })? {
            endpoints.push(Endpoint::parse(&text));
        }
        Ok((endpoints, false))
    }

    fn steering(
        &mut self,
        given: &Arguments,
        listen: &str,
        peer: &str,
    ) -> Result<Steering, Trouble> {
        if let Some(steering) = given.steering(|| self.own_address(listen, peer))? {
            return Ok(steering);
        }
        let with = |tables: &str| {
            check(&format!("{ENDPOINT}{LEASE}[ha.lease]\nbucket = \"my-gateways\"\n{tables}"))
        };
        let zone_id = self.optional(
            "The Route 53 hosted zone in which the active node writes the name, or nothing",
            "",
            |text| {
                let id = quoted(text);
                with(&format!("[ha.route53]\nzone_id = {id}\naddresses = [\"192.0.2.1\"]"))
            },
        )?;
        if let Some(zone_id) = zone_id {
            return Ok(Steering::Record { zone_id, address: self.own_address(listen, peer)? });
        }
        let overlay = self.optional("The overlay IP of both nodes, or nothing", "", is_address)?;
        let Some(address) = overlay else { return Ok(Steering::Nothing) };
        let tables = self.ask("Its route tables, with blanks between them", "", |text| {
            let ids: Vec<toml::Value> = text.split_whitespace().map(quoted).collect();
            let ids = toml::Value::Array(ids);
            with(&format!("[ha.route]\naddress = \"192.0.2.1\"\nroute_tables = {ids}"))
        })?;
        let route_tables = tables.split_whitespace().map(str::to_owned).collect();
        Ok(Steering::Overlay { address, route_tables })
    }

    fn own_address(&mut self, listen: &str, peer: &str) -> Result<IpAddr, Trouble> {
        let own = own_address(listen, peer).map(|address| address.to_string());
        let own = own.unwrap_or_default();
        let address = self.ask("Where clients reach this node", &own, is_address)?;
        address.parse().map_err(|_| Trouble::Refused(format!("{address} is no IP address")))
    }

    /// An answer that will do; without one it is the default, or nothing if that is empty.
    fn optional(
        &mut self,
        question: &str,
        default: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<Option<String>, Trouble> {
        let check = |text: &str| if text.is_empty() { Ok(()) } else { check(text) };
        Ok(Some(self.ask(question, default, check)?).filter(|text| !text.is_empty()))
    }

    fn ask(
        &mut self,
        question: &str,
        default: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<String, Trouble> {
        let default_shown =
            if default.is_empty() { String::new() } else { format!(" [{default}]") };
        for _ in 0..MOST {
            self.tell(&format!("{question}{default_shown}: "))?;
            let mut line = String::new();
            let read = self.answers.by_ref().take(LONGEST).read_line(&mut line);
            if read.map_err(|error| Trouble::Refused(error.to_string()))? == 0 {
                return Err(Trouble::Refused("the answers have ended: nothing is written".into()));
            }
            let answer = match line.trim() {
                "" => default,
                answer => answer,
            };
            match check(answer) {
                Ok(()) => return Ok(answer.into()),
                Err(why) => self.tell(&format!("{why}\n"))?,
            }
        }
        Err(Trouble::Refused("no answer will do: nothing is written".into()))
    }

    fn tell(&mut self, text: &str) -> Result<(), Trouble> {
        let told = self.questions.write_all(text.as_bytes()).and_then(|()| self.questions.flush());
        told.map_err(|error| Trouble::Refused(error.to_string()))
    }
}

/// Whether that much of a file is right.
fn check(text: &str) -> Result<(), String> {
    Config::parse(text, "").map(|_| ()).map_err(|error| error.brief())
}

fn is_address(text: &str) -> Result<(), String> {
    match text.parse::<IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err("write an IP address, such as 10.2.1.10".into()),
    }
}

fn is_server(text: &str) -> bool {
    text.strip_prefix("s-").is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
