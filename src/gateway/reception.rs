//! A client from its connection to its session: whose it is, whether there is room, TLS where that
//! comes first, and an endpoint.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::access::{Denied, Rule, Seat, Visitor};
use super::admission::{Full, Place};
use super::control::Control;
use super::proxy_header::{Ends, NoHeader};
use super::session::{Begun, Parties, Session, refusal};
use super::settings::Settings;
use super::threads::Chosen;
use super::{Service, Shared};
use crate::ftp::{Reply, SessionEnd};
use crate::observe::log;
use crate::observe::metrics::{Connection, HeaderRefusal, Refusal};
use crate::tls::{self, SessionTls};

/// How long to stop accepting after an error such as "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a client that gets no session may take to read why: short, since no limit counts it.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(200);

/// Accepts clients until `closed`. While the node drains they are told so.
pub(super) async fn accept(
    listener: Arc<TcpListener>,
    service: Arc<Service>,
    shared: Arc<Shared>,
    sessions: TaskTracker,
    closed: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closed.cancelled() => return,
        };
        match accepted {
            Ok((stream, client)) => {
                let id = shared.next_session.fetch_add(1, Ordering::Relaxed);
                let thread = shared.threads.choose(id);
                match thread.adopt(stream) {
                    Ok(stream) => {
                        let (service, shared) = (Arc::clone(&service), Arc::clone(&shared));
                        let runtime = thread.runtime();
                        let session = serve(id, stream, client, service, shared, thread);
                        sessions.spawn_on(session, &runtime);
                    }
                    Err(error) => warn!(%error, %client, "a client is lost"),
                }
            }
            Err(error) => {
                // A client that left again, or no file descriptor: neither ends the listener.
                warn!(%error, "accept failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One client, from accept to end. (Not async itself: it would keep room for what it is given.)
fn serve(
    id: u64,
    stream: TcpStream,
    client: SocketAddr,
    service: Arc<Service>,
    shared: Arc<Shared>,
    thread: Chosen,
) -> impl Future<Output = ()> {
    // Boxed, like what it gives: it is over soon, and this task would keep its room for hours.
    let received = Box::pin(receive(id, stream, client, service, shared));
    async move {
        let _on = thread;
        if let Some(admitted) = received.await {
            let &Parties { session, client, .. } = admitted.session.parties();
            log::of_session(session, client, admitted.serve()).await;
        }
    }
}

/// One client up to its session, if it gets one.
async fn receive(
    id: u64,
    mut stream: TcpStream,
    peer: SocketAddr,
    service: Arc<Service>,
    shared: Arc<Shared>,
) -> Option<Box<Admitted>> {
    let own = stream.local_addr().ok()?;
    let socket = Ends { client: peer, local: own };
    let drain = shared.intake.drain_token();
    let ends = tokio::select! {
        ends = shared.balancers.ends(&mut stream, socket) => ends,
        // It is told so, whoever it is.
        () = drain.cancelled() => Ok(socket),
    };
    let Ends { client, local } = match ends {
        Ok(ends) => ends,
        Err(NoHeader::Left) => {
            debug!(%peer, "a balancer has looked in");
            return None;
        }
        Err(NoHeader::Refused(reason)) => {
            info!(%peer, reason = reason.as_str(), "no PROXY protocol header");
            shared.metrics.proxy_protocol_refused(reason);
            turn_away(Control::client(stream), &no_header(reason)).await;
            return None;
        }
    };
    let parties = Parties { session: id, client, local, own };
    log::of_session(id, client, async {
        if client != peer {
            info!(balancer = %peer, destination = %local, %own, "told by a PROXY protocol header");
        }
        match admit(Control::client(stream), parties, service, &shared).await {
            Ok(admitted) => admitted,
            Err(refused) => {
                refused.tell(&shared).await;
                None
            }
        }
    })
    .await
}

/// Says why there will be no session.
async fn turn_away(mut control: Control, why: &[u8]) {
    control.send_last(why);
    control.part(REFUSAL_TIMEOUT).await;
}

/// The reply to a connection of which a balancer should have said whose it is.
fn no_header(reason: HeaderRefusal) -> Vec<u8> {
    match reason {
        HeaderRefusal::Busy => refusal("Too many connections at once; try again later."),
        HeaderRefusal::Timeout => refusal("The PROXY protocol header did not come in time."),
        HeaderRefusal::Invalid | HeaderRefusal::Oversized | HeaderRefusal::Untrusted => {
            let why = "This connection must begin with a PROXY protocol header, and does not.";
            Reply::new(500, why).into_bytes()
        }
    }
}

/// A client that has its session.
struct Admitted {
    session: Session,
    shared: Arc<Shared>,
    drain: CancellationToken,
    /// Its place among all sessions.
    _place: Place,
}

/// A client that gets none.
struct Refused {
    control: Control,
    reason: Refusal,
    /// What it is told, if not the usual.
    why: Option<String>,
    /// It expects TLS from the first byte.
    implicit: bool,
}

impl Admitted {
    /// Serves it to the end.
    async fn serve(mut self: Box<Self>) {
        // Who asked before it was in the list has not reached it.
        let draining = self.drain.is_cancelled();
        let run = AssertUnwindSafe(self.session.run(draining)).catch_unwind();
        // A panic has been told where it happened; it is this session's end and nobody else's.
        let end = run.await.unwrap_or(SessionEnd::Panicked);
        self.shared.metrics.session_ended(end);
        info!(reason = end.as_str(), "ended");
        if end == SessionEnd::Panicked {
            self.session.abandon().await;
        }
    }
}

impl Refused {
    /// Says why, and leaves.
    async fn tell(self, shared: &Shared) {
        info!(reason = self.reason.as_str(), "refused");
        shared.metrics.session_refused(self.reason);
        let usual = match self.reason {
            Refusal::Access(_) => "Access is not allowed.",
            Refusal::ClientLimit => "Too many sessions from your address; try again later.",
            Refusal::Draining => "This gateway is stopping; please connect again.",
            Refusal::Limit => "Too many sessions; try again later.",
            Refusal::NoEndpoint => "No FTP server can be reached now; try again later.",
        };
        // To whom waits for TLS a word in the clear says nothing.
        if self.implicit == self.control.tls().is_some() {
            let why = self.why.as_deref().unwrap_or(usual);
            turn_away(self.control, &refusal(why)).await;
        }
    }
}

/// Gives the client a session, if there may be one; nothing to one that does not begin with the TLS
/// that it has to.
async fn admit(
    mut control: Control,
    parties: Parties,
    service: Arc<Service>,
    shared: &Arc<Shared>,
) -> Result<Option<Box<Admitted>>, Refused> {
    let settings = shared.settings();
    let Some(&terms) = settings.listeners.get(service.index) else { return Ok(None) };
    let implicit = terms.security.implicit;
    let refused = |control, reason| Err(Refused { control, reason, why: None, implicit });
    let drain = shared.intake.drain_token();
    if drain.is_cancelled() {
        return refused(control, Refusal::Draining);
    }
    let visitor = Visitor::new(parties.client.ip(), service.address);
    let seat: Option<Seat> = match shared.access.at_connect(&settings.access, visitor) {
        Ok(seat) => seat,
        Err(Denied { reason, why }) => {
            let reason = Refusal::Access(reason);
            return Err(Refused { control, reason, why: Some(why), implicit });
        }
    };
    let place = match shared.admission.admit(parties.client.ip()) {
        Ok(place) => place,
        Err(Full::Client) => return refused(control, Refusal::ClientLimit),
        Err(Full::Node) => return refused(control, Refusal::Limit),
    };
    let mut tls = None;
    if implicit {
        // Before an endpoint is bothered: port 990 gets its share of scanners.
        tls = match secure(&mut control, &settings, shared).await {
            Some(tls) => Some(tls),
            None => return Ok(None),
        };
    }
    let rule = seat.as_ref().and_then(|seat| settings.access.get(seat.rule()));
    let only = rule.and_then(Rule::endpoints);
    let connected = tokio::select! {
        connected = shared.upstream.connect(parties.client.ip(), only) => connected,
        // No endpoint may answer for long, and a drain must not wait for it.
        () = drain.cancelled() => return refused(control, Refusal::Draining),
    };
    let Ok(connected) = connected else { return refused(control, Refusal::NoEndpoint) };
    debug!(endpoint = %connected.endpoint, "connected");
    shared.metrics.session_started();
    let begun = Begun { service, settings, terms, seat };
    let session = Session::new(Arc::clone(shared), begun, parties, control, tls, connected);
    let shared = Arc::clone(shared);
    Ok(Some(Box::new(Admitted { session, shared, drain, _place: place })))
}

/// Shakes hands with a client that begins with TLS.
async fn secure(control: &mut Control, settings: &Settings, shared: &Shared) -> Option<SessionTls> {
    let session = shared.tls.as_ref()?.session().ok()?;
    let mut tls = session.connection().ok()?;
    let limit = settings.timeouts.tls_handshake;
    match timeout(limit, tls::handshake(control.stream(), &mut tls)).await {
        Ok(Ok(())) => {
            shared.metrics.tls_handshake(Connection::Control, tls.version(), tls.is_resumed());
            control.start_tls(tls);
            Some(session)
        }
        failed => {
            info!(?failed, "no TLS handshake");
            shared.metrics.tls_failed(Connection::Control);
            None
        }
    }
}
