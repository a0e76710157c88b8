//! Who may come in, and what they may do: the rules of the configuration, the blocks of an operator,
//! and bans of who guesses passwords.
//!
//! | file | what it holds |
//! |---|---|
//! | `bans` | refused logins, by client address |
//! | `blocks` | what an operator keeps out for a while |
//! | `book` | what the sessions of a rule share: their counts and rates |
//! | `rate` | so many bytes a second |
//! | `rules` | which rule a client and its user are under |
//! | `state` | the file of blocks that survive a restart |
//!
//! Everything here is decided at once, by what is in memory: nobody waits for it.

mod bans;
mod blocks;
mod book;
mod rate;
mod rules;
mod state;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Config;
use crate::observe::metrics::{Denial, Metrics};
pub use bans::Ban;
use bans::Bans;
pub(super) use bans::counted_as;
use blocks::Blocks;
pub use blocks::{Block, BlockError, CarriedBlock, Target};
use book::Books;
pub(super) use book::{Seat, TransferPlace};
pub(super) use rate::Rate;
use rules::Opening;
pub(super) use rules::{Rule, Rules};
pub use state::StateError;

/// Blocks, bans and counts; clones share them.
#[derive(Debug, Clone)]
pub struct Access {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    blocks: Blocks,
    bans: Bans,
    books: Books,
    metrics: Metrics,
}

/// Who comes, and where to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visitor {
    /// An IPv4 address as such, however it came.
    client: IpAddr,
    /// The listener, as the configuration has it.
    listener: SocketAddr,
}

/// Why somebody may not come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) reason: Denial,
    /// What is said of it.
    pub(super) why: String,
}

/// What a refused login costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Penalty {
    /// How long the refusal is kept back.
    pub(super) delay: Duration,
    /// The client is banned.
    pub(super) banned: bool,
    /// It was not before.
    pub(super) begins: bool,
}

// === impl Visitor, Denied ===

impl Visitor {
    pub(super) fn new(client: IpAddr, listener: SocketAddr) -> Self {
        Self { client: client.to_canonical(), listener }
    }
}

impl Denied {
    fn new(reason: Denial, why: Option<&str>) -> Self {
        let why = why.unwrap_or(match reason {
            Denial::Banned => "Too many failed logins from your address; try again later.",
            Denial::Blocked => "Not available at present; try again later.",
            Denial::Rule => "Access is not allowed.",
            Denial::RuleLimit => "Too many sessions; try again later.",
        });
        Self { reason, why: why.into() }
    }
}

// === impl Access ===

impl Access {
    /// With the blocks that were kept.
    pub(super) fn new(config: &Config, metrics: Metrics) -> Result<Self, StateError> {
        let state = config.admin.as_ref().map(|admin| admin.state.clone());
        let blocks = Blocks::load(state, metrics.clone())?;
        let books = Books::new(metrics.clone());
        Ok(Self { inner: Arc::new(Inner { blocks, bans: Bans::default(), books, metrics }) })
    }

    /// The rules of a configuration. Those whose name was there before go on counting.
    pub(super) fn rules(&self, config: &Config) -> Rules {
        Rules::new(config, &self.inner.books)
    }

    /// Whether a client may come in at all, and under which rule if that is known before its user is.
    pub(super) fn at_connect(
        &self,
        rules: &Rules,
        visitor: Visitor,
    ) -> Result<Option<Seat>, Denied> {
        self.check_client(rules, visitor)?;
        match rules.opening(visitor) {
            Opening::Denied(message) => Err(Denied::new(Denial::Rule, message)),
            Opening::Ruled(rule) => rules.seat(rule).map(Some),
            Opening::Undecided => Ok(None),
        }
    }

    /// Whether a user may log in, and under which rule; `seats` are those that its session has.
    pub(super) fn at_user(
        &self,
        rules: &Rules,
        visitor: Visitor,
        user: &[u8],
        seats: &mut Vec<Seat>,
    ) -> Result<Option<usize>, Denied> {
        // Also what has changed since the client came.
        self.check_client(rules, visitor)?;
        self.check_user(user)?;
        let Some(rule) = rules.for_user(visitor, user)? else { return Ok(None) };
        if !seats.iter().any(|seat| seat.rule() == rule) {
            seats.push(rules.seat(rule)?);
        }
        Ok(Some(rule))
    }

    /// Whether a client is banned now.
    pub(super) fn is_banned(&self, rules: &Rules, visitor: Visitor) -> bool {
        self.inner.bans.is_banned(rules.bans(), visitor.client, Instant::now())
    }

    fn check_client(&self, rules: &Rules, visitor: Visitor) -> Result<(), Denied> {
        if self.is_banned(rules, visitor) {
            return Err(Denied::new(Denial::Banned, None));
        }
        let blocked = |target: &Target| match target {
            Target::Client(network) => network.contains(&visitor.client),
            Target::Listener(listener) => *listener == visitor.listener,
            Target::User(_) => false,
        };
        self.inner.blocks.check(blocked)
    }

    /// Whether a user is not blocked.
    pub(super) fn check_user(&self, user: &[u8]) -> Result<(), Denied> {
        self.inner.blocks.check(|target| target.is_user(user))
    }

    /// A login was refused.
    pub(super) fn login_failed(&self, rules: &Rules, visitor: Visitor) -> Penalty {
        let Some(bans) = rules.bans() else {
            return Penalty { delay: Duration::ZERO, banned: false, begins: false };
        };
        let penalty = self.inner.bans.failed(bans, visitor.client, Instant::now());
        if penalty.begins {
            self.inner.metrics.banned();
        }
        penalty
    }

    /// Keeps somebody or something out from now on. It waits for a disk if the block is to be kept.
    ///
    /// # Errors
    ///
    /// [`BlockError`]; then nothing has changed.
    pub fn block(&self, block: Block) -> Result<(), BlockError> {
        self.inner.blocks.add(block)
    }

    /// Lifts the block of exactly that, and bans of clients in it; says whether there was any. It
    /// waits for a disk if the block was kept.
    ///
    /// # Errors
    ///
    /// [`BlockError`]; then the block stays.
    pub fn unblock(&self, target: &Target) -> Result<bool, BlockError> {
        let blocked = self.inner.blocks.remove(target)?;
        let banned = match target {
            Target::Client(network) => self.inner.bans.lift(network, Instant::now()),
            Target::Listener(_) | Target::User(_) => false,
        };
        Ok(blocked || banned)
    }

    /// What is kept out now: blocks, and bans.
    pub fn list(&self) -> (Vec<Block>, Vec<Ban>) {
        (self.inner.blocks.list(), self.inner.bans.list(Instant::now()))
    }

    /// The blocks of now, for the next process of this node.
    pub fn carried(&self) -> Vec<CarriedBlock> {
        self.inner.blocks.carried()
    }

    /// Keeps out what the process before did, instead of what the file holds.
    pub fn carry(&self, blocks: Vec<CarriedBlock>) {
        self.inner.blocks.carry(blocks);
    }

    /// Brings the metrics of what ends by time alone up to date.
    pub(super) fn show(&self) {
        self.inner.blocks.show();
        self.inner.metrics.bans(self.inner.bans.list(Instant::now()).len());
    }
}
