//! The status page: one document with its style sheet and scripts, embedded, and a stream of what it
//! shows.
//!
//! | route | answer |
//! |---|---|
//! | `GET /` | the page |
//! | `GET /page.css`, `/page.js` and more | what belongs to it |
//! | `GET /events` | server-sent events: [`picture`] tells what is in them |
//!
//! It needs nothing but this port: no build step, nothing from the Internet, and its headers forbid
//! the browser to load or run anything else. Names of files and users are clients' to choose; the
//! scripts only ever put them in as text.
//!
//! One task takes the picture once a second while somebody looks, however many they are, and sleeps
//! otherwise. A viewer that is slow misses pictures; it is never waited for.

mod picture;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream::{Stream, unfold};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tokio_util::sync::CancellationToken;

use crate::gateway::{Gateway, Health, Sessions};
use crate::ha::Pair;
use crate::lock::lock;
use crate::observe::history::{History, STEP};
use crate::observe::metrics::Metrics;

/// From one picture to the next.
const EVERY: Duration = Duration::from_secs(1);
/// How many may look at once: operators, not the public.
const VIEWERS: usize = 16;
/// When a browser that has lost the stream shall come again.
const COME_AGAIN: Duration = Duration::from_secs(2);

/// The browser is to trust nothing but these files.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the page is made of: where it is, what it is, itself.
const FILES: [(&str, &str, &str); 7] = [
    ("/", "text/html; charset=utf-8", include_str!("page.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page.css")),
    ("/parts.css", "text/css; charset=utf-8", include_str!("parts.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page.js")),
    ("/parts.js", "text/javascript; charset=utf-8", include_str!("parts.js")),
    ("/plots.js", "text/javascript; charset=utf-8", include_str!("plots.js")),
    ("/icon.svg", "image/svg+xml", include_str!("icon.svg")),
];

/// The page; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Page {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    health: Health,
    pair: Pair,
    sessions: Sessions,
    metrics: Metrics,
    since: SystemTime,
    history: Mutex<History>,
    places: Arc<Semaphore>,
    frame: watch::Sender<Frame>,
    /// Somebody has come to look.
    looked: Notify,
}

/// What every viewer is sent, as JSON; nothing while nobody looks.
#[derive(Debug, Clone, Default)]
struct Frame {
    now: Option<Arc<str>>,
    /// Changes with every point only.
    history: Option<Arc<str>>,
}

/// One who looks.
struct Viewer {
    frames: watch::Receiver<Frame>,
    /// What waits to be sent behind the rest of its frame.
    history: Option<Arc<str>>,
    /// The history that it has.
    known: Option<Arc<str>>,
    closed: CancellationToken,
    _place: OwnedSemaphorePermit,
}

#[derive(Clone)]
struct Stand {
    page: Page,
    closed: CancellationToken,
}

impl Page {
    pub(super) fn new(gateway: &Gateway, pair: Pair, metrics: Metrics) -> Self {
        Self {
            inner: Arc::new(Inner {
                health: gateway.health(),
                pair,
                sessions: gateway.sessions(),
                metrics,
                since: SystemTime::now(),
                history: Mutex::default(),
                places: Arc::new(Semaphore::new(VIEWERS)),
                frame: watch::Sender::new(Frame::default()),
                looked: Notify::new(),
            }),
        }
    }

    /// Its routes. Streams end when `closed` is cancelled.
    pub(super) fn router(&self, closed: &CancellationToken) -> Router {
        let files = FILES.iter().fold(Router::new(), |router, &(path, kind, text)| {
            let answer = ([(header::CONTENT_TYPE, kind)], headers(), text);
            router.route(path, get(async move || answer))
        });
        files
            .route("/events", get(events))
            .route_layer(from_fn_with_state(self.clone(), refuse_other_names))
            .with_state(Stand { page: self.clone(), closed: closed.clone() })
    }

    /// Keeps the history, and takes pictures while somebody looks, for ever.
    pub(super) async fn run(&self) {
        tokio::join!(self.inner.keep_history(), self.inner.take_pictures());
    }

    /// A place for one more viewer, if there is one left.
    fn viewer(&self, closed: CancellationToken) -> Option<Viewer> {
        let place = Arc::clone(&self.inner.places).try_acquire_owned().ok()?;
        let mut frames = self.inner.frame.subscribe();
        // One that is there is younger than a second.
        frames.mark_changed();
        self.inner.looked.notify_one();
        Some(Viewer { frames, history: None, known: None, closed, _place: place })
    }
}

impl Inner {
    async fn keep_history(&self) {
        let start = Instant::now();
        let mut steps = interval_at(start + STEP, STEP);
        // After a pause of the whole process one long step follows, not many short ones.
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = start;
        loop {
            steps.tick().await;
            // Not when it was due: what follows is divided by the time that has gone by.
            let now = Instant::now();
            let mut counts = self.metrics.counts();
            let moving = self.sessions.moving();
            counts.moved.up += moving.up;
            counts.moved.down += moving.down;
            let sessions = self.sessions.count().0;
            let mut history = lock(&self.history);
            history.add(SystemTime::now(), now - last, counts, sessions);
            last = now;
        }
    }

    async fn take_pictures(&self) {
        loop {
            self.looked.notified().await;
            while self.frame.receiver_count() > 0 {
                self.frame.send_replace(self.frame());
                sleep(EVERY).await;
            }
            // Whoever comes next shall not see what is old by then.
            self.frame.send_replace(Frame::default());
        }
    }
}

impl Viewer {
    /// What it is sent next; nothing any more when the node stops.
    async fn next(&mut self) -> Option<Event> {
        if let Some(history) = self.history.take() {
            return Some(Event::default().event("history").data(&*history));
        }
        loop {
            let changed = self.closed.run_until_cancelled(self.frames.changed()).await;
            changed?.ok()?;
            let Frame { now, history } = self.frames.borrow_and_update().clone();
            let Some(now) = now else { continue };
            if history != self.known {
                self.known.clone_from(&history);
                self.history = history;
            }
            return Some(Event::default().event("now").retry(COME_AGAIN).data(&*now));
        }
    }

    fn into_stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        unfold(self, |mut viewer| async move {
            let event = viewer.next().await?;
            Some((Ok(event), viewer))
        })
    }
}

/// A site whose name leads here could else read what is here through the browser of who visits it,
/// though it is kept inside (DNS rebinding).
async fn refuse_other_names(State(page): State<Page>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let is_own = host.is_none_or(|host| {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let host = authority.host();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        address.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || page.inner.pair.is_called(host)
    });
    if is_own {
        return next.run(request).await;
    }
    let why = "open this page by the node's address, localhost, node.name or ha.name\n";
    (StatusCode::FORBIDDEN, headers(), why).into_response()
}

async fn events(State(Stand { page, closed }): State<Stand>) -> Response {
    match page.viewer(closed) {
        Some(viewer) => (headers(), Sse::new(viewer.into_stream())).into_response(),
        None => {
            let why = format!("{VIEWERS} viewers look at this node already: close one of them\n");
            (StatusCode::SERVICE_UNAVAILABLE, headers(), why).into_response()
        }
    }
}

fn headers() -> [(HeaderName, HeaderValue); 5] {
    [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        // An update of the node is an update of the page.
        (header::CACHE_CONTROL, "no-store"),
    ]
    .map(|(name, value)| (name, HeaderValue::from_static(value)))
}
