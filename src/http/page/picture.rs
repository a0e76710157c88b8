//! What the page is told.
//!
//! Event `now`, once a second: the fields of the admin API's `GET /status` but `pid` and `older[]`, and
//!
//! | field | what it is |
//! |---|---|
//! | `now` | this node's clock |
//! | `zone` | its availability zone, if known |
//! | `moved` | bytes since its start, `up` from clients and `down` to them |
//! | `rows[]` | sessions as in `GET /sessions`, those that transfer first, at most [`ROWS`] |
//! | `events[]` | [`Event`]: `number`, `time`, `about`, `tone` (`good`, `bad`, `plain`), `text`, `count`; the newest first |
//!
//! Event `history`, at first and every ten seconds: [`Columns`](crate::observe::history::Columns).

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::{Frame, Inner};
use crate::gateway::SessionStatus;
use crate::http::FullReport;
use crate::lock::lock;
use crate::observe::events::Event;
use crate::observe::history::Moved;
use crate::rfc3339;

/// Sessions that are shown, of however many.
const ROWS: usize = 200;

#[derive(Serialize)]
struct Now {
    now: String,
    zone: Option<String>,
    moved: Moved,
    rows: Vec<SessionStatus>,
    events: Vec<Event>,
    #[serde(flatten)]
    report: FullReport,
}

impl Inner {
    pub(super) fn frame(&self) -> Frame {
        let history = lock(&self.history).columns();
        Frame { now: json(&self.now()), history: json(&history) }
    }

    fn now(&self) -> Now {
        let ended = self.metrics.counts().moved;
        let moving = self.sessions.moving();
        Now {
            now: rfc3339::text(SystemTime::now()),
            zone: self.health.zone(),
            moved: Moved { up: ended.up + moving.up, down: ended.down + moving.down },
            rows: self.sessions.busiest(ROWS),
            events: self.metrics.events().latest(),
            report: FullReport::new(&self.health, &self.pair, &self.sessions, self.since),
        }
    }
}

/// Numbers, strings and maps with names for keys always serialise.
fn json(what: &impl Serialize) -> Option<Arc<str>> {
    serde_json::to_string(what).ok().map(Into::into)
}
