//! A session's control connection to its upstream, and another one when that is lost.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tracing::{debug, info};

use super::Session;
use crate::ftp::SessionEnd;
use crate::gateway::access::Rule;
use crate::gateway::control::{Control, Read};
use crate::tls::UpstreamTls;
use crate::upstream::{Connected, NoEndpoint, UpstreamLink};

impl Session {
    /// Takes what one read of the upstream's control connection gave.
    pub(super) fn take_upstream_read(&mut self, read: Read) {
        match read {
            Read::Bytes => self.take_replies(),
            Read::Nothing => {}
            Read::End | Read::Lost | Read::TlsBroken => {
                info!(endpoint = %self.endpoint, "the upstream connection is lost");
                self.upstream = None;
                self.lost.get_or_insert(self.endpoint);
                if let Some(place) = self.place.take() {
                    place.doubt();
                }
                self.dialogue.handle_upstream_lost();
            }
        }
    }

    /// Asks for another upstream connection; meanwhile the client is heard.
    pub(super) fn reconnect(&mut self) {
        self.upstream = None;
        let (upstream, client) = (self.shared.upstream.clone(), self.parties.client.ip());
        let (lost, settings, rule) =
            (self.endpoint, Arc::clone(&self.settings), self.dialogue.latest_rule());
        self.reconnect = Some(Box::pin(async move {
            let rule = rule.and_then(|rule| settings.access.get(rule));
            let only = rule.and_then(Rule::endpoints);
            upstream.connect_again(client, lost, only).await.map(Box::new)
        }));
    }

    pub(super) fn take_connection(&mut self, connected: Result<Box<Connected>, NoEndpoint>) {
        self.reconnect = None;
        let Ok(connected) = connected else { return self.dialogue.handle_reconnect_failed() };
        self.endpoint = connected.endpoint;
        self.source_count = connected.place.source();
        self.place = Some(connected.place);
        self.source = local_ip(&connected.stream);
        self.replies = connected.replies;
        let (upstream, tls) =
            upstream_of(connected.stream, connected.tls, self.settings.lost_after);
        (self.upstream, self.upstream_tls) = (Some(upstream), tls);
        self.dialogue.handle_upstream_connected(self.endpoint.is_ipv6());
        self.take_replies();
    }

    pub(super) fn take_replies(&mut self) {
        while let Some(reply) = self.replies.next_reply() {
            match reply {
                Ok(reply) => {
                    debug!(code = reply.code(), "upstream");
                    self.spoke = true;
                    self.dialogue.handle_reply(reply);
                }
                Err(error) => {
                    info!(%error, "the upstream does not speak FTP");
                    let why = format!("The FTP server sent {error}.");
                    return self.dialogue.handle_upstream_closed(SessionEnd::ProtocolError, &why);
                }
            }
        }
    }
}

/// The upstream's control connection, with its TLS if it has some, and what makes that of its data
/// connections.
pub(super) fn upstream_of(
    stream: TcpStream,
    tls: Option<UpstreamLink>,
    lost_after: Duration,
) -> (Control, Option<UpstreamTls>) {
    let mut control = Control::upstream(stream, lost_after);
    let data = tls.map(|UpstreamLink { control: tls, data }| {
        control.start_tls(tls);
        data
    });
    (control, data)
}

/// Our side's address, from which the session's data connections leave too.
pub(super) fn local_ip(stream: &TcpStream) -> IpAddr {
    stream.local_addr().map_or_else(|_| Ipv4Addr::UNSPECIFIED.into(), |address| address.ip())
}
