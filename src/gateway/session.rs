//! The session driver: one task that owns both control connections and the data connections,
//! feeds [`Dialogue`] with what happens and performs what it says. It decides nothing itself.
//! What concerns its data connections is in `data`, and its rule in `access`.

mod access;
mod client;
mod data;
mod upstream;

use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use self::upstream::{local_ip, upstream_of};
use super::access::{Seat, TransferPlace};
use super::control::{Control, News, Read};
use super::orders::Order;
use super::pace::Pace;
use super::proxy_header::Opening;
use super::registry::Listed;
use super::settings::{self, Settings};
use super::timer::Timer;
use super::transfer::{DataConnections, DataEvent};
use super::{Service, Shared};
use crate::ftp::dialogue::{Terms, TransferEnd, Waiting};
use crate::ftp::line::Lines;
use crate::ftp::reply::Replies;
use crate::ftp::{Action, Dialogue, Direction, Outcome, Reply, SessionEnd};
use crate::observe::log::one_line;
use crate::observe::metrics::HeaderRefusal;
use crate::tls::{SessionTls, Tls, UpstreamTls};
use crate::upstream::{Connected, NoEndpoint, Place, SourceCount};
use crate::verify::Writing;

/// How long a last reply may take to arrive.
const PARTING_TIMEOUT: Duration = Duration::from_secs(2);

/// Who is talking, for logs and audit lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parties {
    /// The session's number on this node since it started.
    pub(super) session: u64,
    /// The client's side of its control connection.
    pub(super) client: SocketAddr,
    /// Where it connected to: our side, or that of a balancer before us.
    pub(super) local: SocketAddr,
    /// Our side.
    pub(super) own: SocketAddr,
}

/// What a session has from its beginning on, whatever a reload changes.
pub(super) struct Begun {
    pub(super) service: Arc<Service>,
    pub(super) settings: Arc<Settings>,
    pub(super) terms: settings::Terms,
    /// Under the rule that it is under whoever its user will be, if there is one.
    pub(super) seat: Option<Seat>,
}

/// One session.
pub(super) struct Session {
    shared: Arc<Shared>,
    service: Arc<Service>,
    settings: Arc<Settings>,
    parties: Parties,
    /// Its places under the rules that it is under: one, and another while a user logs in.
    seats: Vec<Seat>,
    /// The place of its transfer, if a rule limits them.
    place_of_transfer: Option<TransferPlace>,
    /// The file that it writes, if uploads are looked for.
    writing: Option<Writing>,
    /// When the client may hear that its login is refused, and whether it must go then.
    penalty: Option<(Instant, bool)>,
    /// Where an operator sees it.
    listed: Listed,
    /// What the client's TLS connections are made by, once it has begun with TLS.
    tls: Option<SessionTls>,
    endpoint: SocketAddr,
    /// The session's place at that endpoint; `None` once the connection is lost.
    place: Option<Place>,
    /// The endpoint that was lost, until the session goes on at another.
    lost: Option<SocketAddr>,
    client: Control,
    /// `None` once it is lost, until the client's next command.
    upstream: Option<Control>,
    /// By which its data connections are encrypted, if it has TLS.
    upstream_tls: Option<UpstreamTls>,
    /// Another upstream connection on its way.
    reconnect: Option<Reconnect>,
    /// Our address towards the upstream; its data connections leave from there too.
    source: IpAddr,
    /// Where they count.
    source_count: SourceCount,
    opening: Opening,
    lines: Lines,
    replies: Replies,
    dialogue: Dialogue,
    data: DataConnections,
    pace: Pace,
    /// Lines may be waiting in `lines`: the dialogue's queue is full or the client too fast.
    stalled: Stalled,
    /// The transfer whose time counts.
    transfer: Option<(Direction, Instant)>,
    /// A command or reply has come since the timer was last looked at.
    spoke: bool,
    /// A command has come that the list has not been told of.
    commanded: bool,
    end: Option<SessionEnd>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stalled {
    No,
    Queue,
    Pace(Instant),
}

type Reconnect = Pin<Box<dyn Future<Output = Result<Box<Connected>, NoEndpoint>> + Send>>;

/// What woke the session.
enum Event {
    Client(Read),
    Connected(Result<Box<Connected>, NoEndpoint>),
    Data(DataEvent),
    /// Some of what was kept for either side has been sent.
    Flushed,
    Order(Order),
    Paced,
    PenaltyOver,
    /// What came from the client is a PROXY protocol header.
    ProxyHeader,
    Timeout,
    Upstream(Read),
}

impl Session {
    /// `tls` is there if the client began with TLS.
    pub(super) fn new(
        shared: Arc<Shared>,
        begun: Begun,
        parties: Parties,
        mut client: Control,
        tls: Option<SessionTls>,
        connected: Connected,
    ) -> Self {
        let Begun { service, settings, terms: offered, seat } = begun;
        let rule = seat.as_ref().and_then(|seat| settings.access.get(seat.rule()));
        let terms = Terms {
            client_ipv6: parties.local.is_ipv6(),
            // Both: a client that comes by IPv6 is not expected to come to its port by IPv4.
            passive_ipv4: parties.local.is_ipv4() && settings.advertised(&parties).is_ipv4(),
            upstream_ipv6: connected.endpoint.is_ipv6(),
            upstream_ports: settings.upstream_ports.clone(),
            resume: settings.resume,
            security: offered.security,
            ascii: offered.ascii,
            active: offered.active,
            client: parties.client.ip(),
            own_address: parties.own.ip(),
            own_ports: shared.own_ports.clone(),
            permit: rule.map(|rule| Arc::clone(rule.permit())),
            penalties: true,
            locate: shared.verifier.is_some(),
        };
        client.send(connected.banner.bytes());
        let source = local_ip(&connected.stream);
        let Parties { session, client: whom, local, .. } = parties;
        let listed =
            shared.sessions.enter(session, whom, local, service.address, connected.endpoint);
        let (upstream, upstream_tls) =
            upstream_of(connected.stream, connected.tls, settings.lost_after);
        Self {
            opening: Opening::new(),
            lines: Lines::new(settings.limits.line_length),
            pace: Pace::new(settings.limits.commands_per_second, Instant::now()),
            service,
            settings,
            parties,
            seats: seat.into_iter().collect(),
            place_of_transfer: None,
            writing: None,
            penalty: None,
            listed,
            tls,
            endpoint: connected.endpoint,
            source_count: connected.place.source(),
            place: Some(connected.place),
            lost: None,
            client,
            source,
            upstream: Some(upstream),
            upstream_tls,
            reconnect: None,
            replies: connected.replies,
            dialogue: Dialogue::new(terms),
            shared,
            data: DataConnections::new(),
            stalled: Stalled::No,
            transfer: None,
            spoke: false,
            commanded: false,
            end: None,
        }
    }

    /// Who is talking.
    pub(super) fn parties(&self) -> &Parties {
        &self.parties
    }

    /// Runs until the session ends; if it is `draining`, when it is idle at the latest.
    pub(super) async fn run(&mut self, mut draining: bool) -> SessionEnd {
        let settings = Arc::clone(&self.settings);
        let mut timer = Timer::new();
        let mut orders = self.listed.orders();
        self.take_replies();
        let end = loop {
            self.perform();
            if let Some(end) = self.end {
                break end;
            }
            if self.stalled == Stalled::Queue && self.dialogue.wants_line() {
                self.take_lines();
                continue;
            }
            self.publish();
            let waiting = self.dialogue.waiting();
            let spoke = std::mem::take(&mut self.spoke);
            timer.run(waiting, spoke, &settings.timeouts, draining.then_some(settings.drain.idle));
            // A client that always has more to read must not keep the thread to itself.
            consume_budget().await;
            match self.event(&mut orders, &mut timer).await {
                Event::Client(read) => self.take_read(read),
                Event::ProxyHeader => self.dialogue.handle_proxy_header(),
                Event::Flushed => {}
                Event::Connected(connected) => self.take_connection(connected),
                Event::Upstream(read) => self.take_upstream_read(read),
                Event::Data(event) => self.take_data(event),
                Event::Paced => self.take_lines(),
                Event::PenaltyOver => self.end_penalty(),
                Event::Timeout
                    if draining && matches!(waiting, Waiting::Command | Waiting::Login) =>
                {
                    self.dialogue.handle_drain();
                }
                Event::Timeout => {
                    timer.fired();
                    self.dialogue.handle_timeout(waiting);
                }
                Event::Order(Order::Drain) => draining = true,
                Event::Order(Order::Kill) => self.dialogue.handle_kill(),
                Event::Order(Order::Stop) => self.dialogue.handle_drain(),
            }
        };
        // What is left is a farewell.
        self.listed.leave();
        self.client.part(PARTING_TIMEOUT).await;
        end
    }

    /// After a panic, whatever state that has left: the transfer is reset and recorded as what it is, and
    /// the client is told.
    pub(super) async fn abandon(&mut self) {
        self.data.reset();
        self.listed.leave();
        // It may have ended, and nobody have been told.
        let ended =
            std::iter::from_fn(|| self.dialogue.poll_action()).find_map(|action| match action {
                Action::Audit(end) => Some((end.verb, end.path)),
                _ => None,
            });
        let transfer = self.dialogue.transfer().map(|it| (it.verb, it.path.to_vec())).or(ended);
        if let (Some(_), Some((verb, path))) = (self.transfer, transfer) {
            let outcome = Outcome::GatewayFailed;
            self.audit(TransferEnd { verb, path, outcome, as_sent: false, reply: None });
        }
        self.client.send_last(&refusal("This gateway has failed; please connect again."));
        self.client.part(PARTING_TIMEOUT).await;
    }

    /// Waits for the next event. The client's control connection comes before the data, so that an
    /// ABOR or the client's death is seen before what it did to the data connection; but after the
    /// timer, which a client that never ceases to send could hold up otherwise.
    async fn event(
        &mut self,
        orders: &mut (impl Future<Output = Order> + Unpin),
        timer: &mut Timer,
    ) -> Event {
        // Replies of our own need no upstream: a client that reads none of them must wait, or they
        // would pile up. During a transfer it must be heard, and gets none but the upstream's.
        let upstream_flushed = self.upstream.as_ref().is_none_or(Control::is_flushed);
        let reads_client = self.client.is_handshaking()
            || (self.stalled == Stalled::No
                && upstream_flushed
                && (self.client.is_flushed() || self.dialogue.in_transfer()));
        let reads_client = reads_client && !self.dialogue.client_closed();
        let reads_upstream = self.client.is_flushed();
        let stalled = self.stalled;
        // Boxed: both are rare, and a session that is idle for hours would keep their room.
        let paced = async move {
            match stalled {
                Stalled::Pace(until) => Box::pin(sleep_until(until)).await,
                _ => pending().await,
            }
        };
        let penalty = self.penalty;
        let penalty_over = async move {
            match penalty {
                Some((until, _)) => Box::pin(sleep_until(until)).await,
                None => pending().await,
            }
        };
        let (lines, opening, mut header) = (&mut self.lines, &mut self.opening, false);
        let client = self.client.news(reads_client, |bytes| {
            header = opening.is_signature(bytes);
            lines.push(bytes);
        });
        let upstream = upstream_news(self.upstream.as_mut(), reads_upstream, &mut self.replies);
        tokio::select! {
            biased;
            order = orders => Event::Order(order),
            () = timer.expired() => Event::Timeout,
            news = client => match news {
                News::Flushed => Event::Flushed,
                News::Read(_) if header => Event::ProxyHeader,
                News::Read(read) => Event::Client(read),
            },
            news = upstream => match news {
                News::Flushed => Event::Flushed,
                News::Read(read) => Event::Upstream(read),
            },
            connected = connected(self.reconnect.as_mut()) => Event::Connected(connected),
            event = self.data.next() => Event::Data(event),
            () = paced => Event::Paced,
            () = penalty_over => Event::PenaltyOver,
        }
    }

    /// Tells whoever looks on where the session stands.
    fn publish(&mut self) {
        let tls = self.client.tls().map(Tls::version).filter(|version| !version.is_empty());
        let commanded = std::mem::take(&mut self.commanded);
        self.listed.publish(&self.dialogue, self.endpoint, tls, commanded);
    }

    /// Performs everything that the dialogue wants done.
    fn perform(&mut self) {
        while let Some(action) = self.dialogue.poll_action() {
            match action {
                Action::ToClient(bytes) if self.dialogue.is_closed() => {
                    self.client.send_last(&bytes);
                }
                Action::ToClient(bytes) => self.client.send(&bytes),
                Action::StartTls(reply) => self.start_tls(&reply),
                Action::ToUpstream(line) => {
                    if let Some(upstream) = &mut self.upstream {
                        upstream.send(&line);
                    }
                }
                Action::Judge { user } => self.judge(&user),
                Action::AskTransfer => self.ask_transfer(),
                Action::CommandDenied { rule } => self.command_denied(rule),
                Action::Penalise => self.penalise(),
                Action::Moved { succeeded } => {
                    info!(succeeded, endpoint = %self.endpoint, "moved to an endpoint of its rule");
                }
                Action::Reconnect => self.reconnect(),
                Action::Resume { succeeded } => {
                    self.shared.metrics.session_resumed(succeeded);
                    let from = self.lost.take().unwrap_or(self.endpoint);
                    info!(succeeded, %from, endpoint = %self.endpoint, "resume");
                }
                Action::ReservePort(target) => self.reserve(target),
                Action::TransferStarted(direction) => {
                    self.transfer = Some((direction, Instant::now()));
                    if let Some(transfer) = self.dialogue.transfer() {
                        self.listed.begin_transfer(transfer, self.data.progress());
                    }
                    self.shared.metrics.transfer_started();
                }
                Action::AwaitTransfer { to, target } => self.await_transfer(to, target),
                Action::CallBack => self.data.call_back(),
                Action::CallbackRefused(reason) => self.shared.metrics.callback_refused(reason),
                Action::Relay(course) => self.relay(course),
                Action::FileGone { from, to } => self.file_gone(from.as_ref(), to.as_ref()),
                Action::FinishData => self.data.finish(),
                Action::RefuseData => self.data.refuse(),
                Action::ReleaseData => self.data.release(),
                Action::ResetData => self.data.reset(),
                Action::Login { accepted } => {
                    self.shared.metrics.login(accepted);
                    let user = printable(self.dialogue.user());
                    let (user, endpoint) = (one_line(&user), self.endpoint);
                    info!(accepted, %user, %endpoint, "login");
                    if accepted {
                        self.check_user();
                    }
                }
                Action::UploadStarted(place) => self.begin_writing(&place),
                Action::Audit(end) => self.audit(end),
                Action::Close(end) => {
                    if end == SessionEnd::ProxyHeader {
                        self.shared.metrics.proxy_protocol_refused(HeaderRefusal::Untrusted);
                    }
                    self.end = Some(end);
                }
            }
        }
        self.leave_seats();
    }
}

async fn upstream_news(upstream: Option<&mut Control>, reads: bool, replies: &mut Replies) -> News {
    match upstream {
        Some(upstream) => upstream.news(reads, |bytes| replies.push(bytes)).await,
        None => pending().await,
    }
}

async fn connected(reconnect: Option<&mut Reconnect>) -> Result<Box<Connected>, NoEndpoint> {
    match reconnect {
        Some(reconnect) => reconnect.await,
        None => pending().await,
    }
}

/// Text for people; what is no UTF-8 is shown as U+FFFD. Control characters are the writer's to
/// escape.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The reply to a client that gets no session.
pub(super) fn refusal(why: &str) -> Vec<u8> {
    Reply::new(421, why).into_bytes()
}
