//! `ftpgate init`: a first configuration, from flags, from answers on a terminal, and from what AWS
//! says of a Transfer Family server.

mod ask;
mod discover;
mod node;
mod write;

use std::io::{BufReader, IsTerminal as _, stderr, stdin};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use self::ask::Questions;
use self::node::{Endpoint, Node, Pair, Steering};
use super::node::{Trouble, finish, run};
use super::output::print;
use crate::config::Config;

/// Where clients arrive unless told otherwise.
const LISTEN: &str = "0.0.0.0:21";
/// sysexits(3) has another number, but clap's for a command line that is not understood is this one.
const NOT_UNDERSTOOD: u8 = 2;

pub(super) const EXAMPLES: &str = "\
On a terminal it asks for what is not given, unless endpoints are. Examples:
  ftpgate init
  ftpgate init --endpoint 10.2.3.10=ap-northeast-1a --endpoint 10.2.4.10=ap-northeast-1c --zone auto
  ftpgate init --transfer-server s-0123456789abcdef0 --zone auto --ha lease --peer 10.2.2.10:9121 \\
      --name gw.ftp.example.internal --lease-bucket my-gateways --route53-zone Z0123456789ABCDEFGHIJ

Exit codes:
  0   the file is written
  1   it is there already, cannot be written, or AWS does not tell
  2   not understood, or something is missing
  78  this would be no good configuration";

/// What `ftpgate init` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// An address or a DNS name of the FTP service, and the zone that it is in; once for each.
    #[arg(long = "endpoint", value_name = "ADDRESS[=ZONE]")]
    endpoints: Vec<String>,
    /// Take the endpoints of this AWS Transfer Family server, which AWS is asked for.
    #[arg(long, value_name = "SERVER-ID", conflicts_with = "endpoints")]
    transfer_server: Option<String>,
    /// Where clients connect to [default: 0.0.0.0:21].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// The zone of this node, or `auto` to ask the instance metadata service.
    #[arg(long)]
    zone: Option<String>,
    /// What decides the role of two nodes [default: none].
    #[arg(long, value_name = "MODE")]
    ha: Option<Mode>,
    /// Where the other node answers, such as 10.2.2.10:9121.
    #[arg(long, value_name = "ADDRESS:PORT")]
    peer: Option<String>,
    /// The name that clients use.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The S3 bucket of the lease.
    #[arg(long, value_name = "BUCKET")]
    lease_bucket: Option<String>,
    /// The Route 53 hosted zone in which the active node writes the name.
    #[arg(long, value_name = "ZONE-ID", conflicts_with = "overlay_ip")]
    route53_zone: Option<String>,
    /// Where clients reach this node, for that record [default: from where it reaches the peer].
    #[arg(long, requires = "route53_zone")]
    address: Option<IpAddr>,
    /// One address for both nodes, which route tables send to the active one.
    #[arg(long, value_name = "ADDRESS", requires = "route_tables")]
    overlay_ip: Option<String>,
    /// A route table that has a route for it; once for each.
    #[arg(long = "route-table", value_name = "ID", requires = "overlay_ip")]
    route_tables: Vec<String>,
    /// The file to write; `-` prints it.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/ftpgate/ftpgate.toml")]
    output: PathBuf,
    /// Write it even if it is there already.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    None,
    Lease,
    Dns,
}

/// Why no file is written.
#[derive(Debug)]
enum Refusal {
    /// Something is missing on the command line, or does not go together.
    Usage(String),
    /// Anything else.
    Trouble(Trouble),
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

/// Writes the file, or says why not.
#[expect(clippy::print_stderr, reason = "a command's answer")]
pub(super) fn init(arguments: Arguments) -> ExitCode {
    match write_configuration(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Refusal::Usage(why)) => {
            eprintln!("error: {why}");
            ExitCode::from(NOT_UNDERSTOOD)
        }
        Err(Refusal::Trouble(trouble)) => finish(Err(trouble)),
    }
}

fn write_configuration(arguments: Arguments) -> Result<(), Refusal> {
    let (output, force) = (arguments.output.clone(), arguments.force);
    let is_printed = output.as_os_str() == "-";
    // Before anybody has answered a dozen questions.
    if !is_printed && !force && output.symlink_metadata().is_ok() {
        return Err(write::exists(&output).into());
    }
    let node = node(arguments)?;
    let text = node.text();
    let name = if is_printed { "this configuration".into() } else { output.display().to_string() };
    let config = Config::parse(&text, &name);
    config.map_err(|error| Trouble::Config(error.to_string().trim_end().into()))?;
    if is_printed {
        print(&text);
        return Ok(());
    }
    write::write(&output, &text, force)?;
    print(&format!("{name}: written\n{}", node.next_steps(&name)));
    Ok(())
}

/// What is known of the node once everything is asked.
fn node(arguments: Arguments) -> Result<Node, Refusal> {
    check_mode(&arguments)?;
    let has_endpoints = !arguments.endpoints.is_empty() || arguments.transfer_server.is_some();
    if !has_endpoints && !stdin().is_terminal() {
        return Err(Refusal::Usage(
            "there is no endpoint: give --endpoint ADDRESS[=ZONE] or --transfer-server SERVER-ID, or run \
             it on a terminal, where it asks"
                .into(),
        ));
    }
    if !has_endpoints {
        // What is asked is not part of what is printed.
        return Ok(Questions::new(BufReader::new(stdin()), stderr()).node(arguments)?);
    }
    check_needs(&arguments)?;
    let (endpoints, is_transfer) = match &arguments.transfer_server {
        Some(server) => (run(discover::endpoints(server))?, true),
        None => (arguments.endpoints.iter().map(|text| Endpoint::parse(text)).collect(), false),
    };
    let listen = arguments.listen.clone().unwrap_or_else(|| LISTEN.into());
    let pair = match (arguments.ha, arguments.peer.clone()) {
        (Some(mode @ (Mode::Lease | Mode::Dns)), Some(peer)) => {
            let steering = arguments.steering(|| {
                node::own_address(&listen, &peer).ok_or_else(|| {
                    let why = "nobody knows where clients reach this node: give --address";
                    Refusal::Usage(why.into())
                })
            })?;
            let steering = steering.unwrap_or(Steering::Nothing);
            let lease_bucket = arguments.lease_bucket.filter(|_| mode == Mode::Lease);
            Some(Pair { peer, name: arguments.name, lease_bucket, steering })
        }
        _ => None,
    };
    Ok(Node { endpoints, is_transfer, listen, zone: arguments.zone, pair })
}

impl Arguments {
    /// What they say that the holder of a lease moves, if they do; `own` tells where clients reach
    /// this node if they do not.
    fn steering<E>(&self, own: impl FnOnce() -> Result<IpAddr, E>) -> Result<Option<Steering>, E> {
        Ok(match (&self.route53_zone, &self.overlay_ip) {
            (Some(zone_id), _) => Some(Steering::Record {
                zone_id: zone_id.clone(),
                address: self.address.map_or_else(own, Ok)?,
            }),
            (None, Some(address)) => Some(Steering::Overlay {
                address: address.clone(),
                route_tables: self.route_tables.clone(),
            }),
            (None, None) => None,
        })
    }
}

/// What a mode needs, where nobody is asked for it.
fn check_needs(arguments: &Arguments) -> Result<(), Refusal> {
    let Arguments { peer, name, lease_bucket, route53_zone, .. } = arguments;
    let (pair, lease) = match arguments.ha {
        Some(Mode::Lease) => (true, true),
        Some(Mode::Dns) => (true, false),
        Some(Mode::None) | None => return Ok(()),
    };
    let needs_name = !lease || route53_zone.is_some();
    for (flag, is_missing, remedy) in [
        ("--peer", pair && peer.is_none(), "where the other node answers"),
        ("--lease-bucket", lease && lease_bucket.is_none(), "the S3 bucket of the lease"),
        ("--name", needs_name && name.is_none(), "the name that clients use"),
    ] {
        if is_missing {
            return Err(Refusal::Usage(format!("{flag} is missing: give {remedy}")));
        }
    }
    Ok(())
}

/// What a mode has no use for.
fn check_mode(arguments: &Arguments) -> Result<(), Refusal> {
    let given = [
        ("--peer", arguments.peer.is_some(), true),
        ("--name", arguments.name.is_some(), true),
        ("--lease-bucket", arguments.lease_bucket.is_some(), false),
        ("--route53-zone", arguments.route53_zone.is_some(), false),
        ("--overlay-ip", arguments.overlay_ip.is_some(), false),
    ];
    for (flag, is_given, is_for_dns) in given {
        let remedy = match arguments.ha {
            Some(Mode::Lease) => continue,
            Some(Mode::Dns) if is_for_dns => continue,
            Some(Mode::None) | None if is_for_dns => "give --ha lease or --ha dns",
            _ => "give --ha lease",
        };
        if is_given {
            return Err(Refusal::Usage(format!("{flag} is for a pair of another kind: {remedy}")));
        }
    }
    Ok(())
}
