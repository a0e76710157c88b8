//! What an operator keeps out for a while: a listener, clients, users.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::state::{self, KeptBlock, StateError};
use super::{Denial, Denied};
use crate::config::is_like;
use crate::lock::lock;
use crate::observe::metrics::Metrics;

/// Each client is held against all of them.
const MOST: usize = 1000;
/// The longest pattern for users, in bytes.
const USER: usize = 256;

/// The list.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Where those are kept that survive a restart; nowhere if nobody can set any.
    path: Option<PathBuf>,
    now: RwLock<Arc<[Block]>>,
    /// Held during a change, so that there is one at a time.
    change: Mutex<()>,
    metrics: Metrics,
}

/// One block, as the admin API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Block {
    /// Who or what is kept out: `kind` and `what`.
    #[serde(flatten, serialize_with = "named")]
    pub target: Target,
    /// What they are told.
    pub message: Option<String>,
    /// When it was set, in RFC 3339.
    #[serde(serialize_with = "crate::rfc3339::serialize")]
    pub since: SystemTime,
    /// When it ends by itself, if it does.
    #[serde(serialize_with = "crate::rfc3339::serialize_if_any")]
    pub until: Option<SystemTime>,
    /// Whether it survives a restart.
    pub keep: bool,
}

/// The same on its way to the next process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CarriedBlock {
    block: KeptBlock,
    keep: bool,
}

/// Who or what is kept out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The clients of a network.
    Client(IpNet),
    /// All clients of a listener, as the configuration has it.
    Listener(SocketAddr),
    /// The users whose names are like this, with `*` for anything.
    User(String),
}

/// Why nobody is blocked or unblocked.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// There are so many blocks already.
    #[error("there are {MOST} blocks already; lift some first, or block a whole network")]
    Full,
    /// What is kept could not be written.
    #[error("nothing has changed: {0}")]
    State(#[from] StateError),
}

// === impl Target ===

impl Target {
    /// Reads one from its kind and its name.
    ///
    /// # Errors
    ///
    /// What is wrong with it and what to write.
    pub fn parse(kind: &str, what: &str) -> Result<Self, String> {
        match kind {
            "client" => {
                let network = what.parse().or_else(|_| what.parse::<IpAddr>().map(IpNet::from));
                let network = network.map_err(|_| {
                    format!("{what} is no client: write an address or a network, such as 10.1.2.3 or 10.1.0.0/16")
                })?;
                Ok(Self::Client(network.trunc()))
            }
            "listener" => what.parse().map(Self::Listener).map_err(|_| {
                format!("{what} is no listener: write its address and port as in [[listener]], such as 0.0.0.0:21")
            }),
            "user" if what.is_empty() || what.len() > USER || what.contains(char::is_control) => Err(
                format!("{what} is no user: write a name of at most {USER} bytes, in which * stands for anything"),
            ),
            "user" => Ok(Self::User(what.into())),
            _ => Err(format!("{kind}: expected client, listener or user")),
        }
    }

    /// The word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Client(_) => "client",
            Self::Listener(_) => "listener",
            Self::User(_) => "user",
        }
    }

    /// Whether it means this user.
    pub fn is_user(&self, user: &[u8]) -> bool {
        matches!(self, Self::User(pattern) if is_like(pattern, user))
    }

    /// Its name alone.
    pub fn what(&self) -> String {
        match self {
            // One address is shown as one.
            Self::Client(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().to_string()
            }
            Self::Client(network) => network.to_string(),
            Self::Listener(listener) => listener.to_string(),
            Self::User(pattern) => pattern.clone(),
        }
    }
}

/// `client 10.1.0.0/16`
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.what())
    }
}

// === impl Blocks ===

impl Blocks {
    /// With those that were kept.
    pub(super) fn load(path: Option<PathBuf>, metrics: Metrics) -> Result<Self, StateError> {
        let mut blocks = path.as_deref().map_or(Ok(Vec::new()), state::read)?;
        blocks.retain(|block| !block.is_over(SystemTime::now()));
        let blocks =
            Self { path, now: RwLock::new(blocks.into()), change: Mutex::default(), metrics };
        blocks.show();
        Ok(blocks)
    }

    /// Refuses what one of them means.
    pub(super) fn check(&self, is_meant: impl Fn(&Target) -> bool) -> Result<(), Denied> {
        let blocks = self.now();
        if blocks.is_empty() {
            return Ok(());
        }
        let now = SystemTime::now();
        match blocks.iter().find(|block| is_meant(&block.target) && !block.is_over(now)) {
            Some(block) => Err(Denied::new(Denial::Blocked, block.message.as_deref())),
            None => Ok(()),
        }
    }

    /// One more, in place of one of the same.
    pub(super) fn add(&self, block: Block) -> Result<(), BlockError> {
        let _change = lock(&self.change);
        let mut blocks = self.list();
        blocks.retain(|there| there.target != block.target);
        if blocks.len() >= MOST {
            return Err(BlockError::Full);
        }
        blocks.push(block);
        self.set(blocks)
    }

    /// Takes away the one of exactly that; says whether there was one.
    pub(super) fn remove(&self, target: &Target) -> Result<bool, BlockError> {
        let _change = lock(&self.change);
        let mut blocks = self.list();
        let before = blocks.len();
        blocks.retain(|there| there.target != *target);
        let found = blocks.len() < before;
        self.set(blocks)?;
        Ok(found)
    }

    /// All that hold now, also those that no restart survives, for the next process of this node.
    pub(super) fn carried(&self) -> Vec<CarriedBlock> {
        let carried =
            |block: &Block| CarriedBlock { keep: block.keep, block: KeptBlock::of(block) };
        self.list().iter().map(carried).collect()
    }

    /// Keeps out what the process before does.
    pub(super) fn carry(&self, carried: Vec<CarriedBlock>) {
        let _change = lock(&self.change);
        let blocks = carried.into_iter().filter_map(|CarriedBlock { block, keep }| {
            let block = block.into_block();
            let block = block.inspect_err(|error| warn!(error, "a block is not understood"));
            block.ok().map(|block| Block { keep, ..block })
        });
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = blocks.collect();
        self.show();
    }

    /// Those that hold now.
    pub(super) fn list(&self) -> Vec<Block> {
        let now = SystemTime::now();
        self.now().iter().filter(|block| !block.is_over(now)).cloned().collect()
    }

    /// Brings the metric up to date.
    pub(super) fn show(&self) {
        let blocks = self.list();
        for kind in ["client", "listener", "user"] {
            let count = blocks.iter().filter(|block| block.target.kind() == kind).count();
            self.metrics.blocks(kind, count);
        }
    }

    /// What is kept is written first: a block that is told as kept is.
    fn set(&self, blocks: Vec<Block>) -> Result<(), BlockError> {
        let kept = |blocks: &[Block]| -> Vec<Block> {
            blocks.iter().filter(|block| block.keep).cloned().collect()
        };
        if let Some(path) = &self.path
            && kept(&self.now()) != kept(&blocks)
        {
            state::write(path, &kept(&blocks))?;
        }
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = blocks.into();
        self.show();
        Ok(())
    }

    fn now(&self) -> Arc<[Block]> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Block {
    fn is_over(&self, now: SystemTime) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

fn named<S: serde::Serializer>(target: &Target, to: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap as _;
    let mut map = to.serialize_map(Some(2))?;
    map.serialize_entry("kind", target.kind())?;
    map.serialize_entry("what", &target.what())?;
    map.end()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    fn block(kind: &str, what: &str, seconds: Option<u64>, keep: bool) -> Block {
        let since = SystemTime::now();
        let until = seconds.map(|seconds| since + Duration::from_secs(seconds));
        let target = Target::parse(kind, what).unwrap();
        Block { target, message: Some(format!("No {what}.")), since, until, keep }
    }

    fn load(path: &std::path::Path) -> Result<Blocks, StateError> {
        Blocks::load(Some(path.into()), Metrics::new().unwrap())
    }

    #[test]
    fn targets_are_read_and_shown_alike() {
        for (kind, what, shown) in [
            ("client", "10.1.2.3", "client 10.1.2.3"),
            ("client", "10.1.2.3/16", "client 10.1.0.0/16"),
            ("client", "2001:db8::/32", "client 2001:db8::/32"),
            ("listener", "0.0.0.0:21", "listener 0.0.0.0:21"),
            ("listener", "[::]:21", "listener [::]:21"),
            ("user", "acme-*", "user acme-*"),
        ] {
            assert_eq!(Target::parse(kind, what).unwrap().to_string(), shown);
        }
        for (kind, what) in [
            ("client", "gateway"),
            ("client", "10.0.0.0/33"),
            ("listener", "21"),
            ("user", ""),
            ("user", "a\r\nb"),
            ("users", "ann"),
        ] {
            let error = Target::parse(kind, what).unwrap_err();
            assert!(error.contains("write") || error.contains("expected"), "{error}");
        }
    }

    #[test]
    fn only_what_is_to_be_kept_is_there_after_a_restart_with_the_time_that_is_left() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("new").join("blocks.json");
        let blocks = load(&path).unwrap();
        blocks.add(block("user", "ann", None, false)).unwrap();
        assert!(!path.exists(), "nobody asked for a file");
        blocks.add(block("client", "10.1.0.0/16", Some(3600), true)).unwrap();
        blocks.add(block("listener", "0.0.0.0:21", None, true)).unwrap();
        blocks.add(block("user", "bob", Some(0), true)).unwrap();
        assert_eq!(blocks.list().len(), 3);

        let again = load(&path).unwrap();
        let (kept, before) = (again.list(), blocks.list());
        assert_eq!(kept.len(), 2);
        assert_eq!((&kept[0].target, &kept[0].message), (&before[1].target, &before[1].message));
        let apart = before[1].until.unwrap().duration_since(kept[0].until.unwrap()).unwrap();
        assert!(apart < Duration::from_secs(1));

        // Set anew and not to be kept, it is not.
        again.add(block("client", "10.1.0.0/16", None, false)).unwrap();
        assert!(again.remove(&Target::parse("listener", "0.0.0.0:21").unwrap()).unwrap());
        assert!(!again.remove(&Target::parse("listener", "0.0.0.0:21").unwrap()).unwrap());
        assert!(load(&path).unwrap().list().is_empty());
    }

    #[test]
    fn what_cannot_be_kept_changes_nothing() {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let blocks = load(&directory.path().join("blocks.json")).unwrap();
        blocks.add(block("user", "ann", None, true)).unwrap();
        let nowhere = Blocks { path: Some(file.join("blocks.json")), ..blocks };
        let error = nowhere.add(block("user", "bob", None, true)).unwrap_err().to_string();
        assert!(error.contains("nothing has changed") && error.contains("admin.state"), "{error}");
        assert!(nowhere.remove(&Target::parse("user", "ann").unwrap()).is_err());
        assert_eq!(nowhere.list().len(), 1);
        nowhere.add(block("user", "bob", None, false)).unwrap();
    }

    #[test]
    fn a_damaged_file_is_told_and_not_taken_for_empty() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("blocks.json");
        load(&path).unwrap().add(block("user", "ann", None, true)).unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        for bad in [
            "".to_owned(),
            good[..good.len() / 2].to_owned(),
            good.replace("\"version\":1", "\"version\":2"),
            good.replace("\"kind\":\"user\"", "\"kind\":\"usr\""),
            good.replace("\"since\":\"2", "\"since\":\"x"),
        ] {
            assert_ne!(bad, good);
            std::fs::write(&path, bad).unwrap();
            let error = load(&path).unwrap_err().to_string();
            assert!(error.contains("blocks.json") && error.contains("remove it"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(load(&path).is_err());
    }

    #[test]
    fn there_are_never_too_many() {
        let blocks = Blocks::load(None, Metrics::new().unwrap()).unwrap();
        for number in 0..MOST {
            blocks.add(block("user", &format!("user-{number}"), None, false)).unwrap();
        }
        let error = blocks.add(block("user", "one more", None, false)).unwrap_err();
        assert!(error.to_string().contains("lift some first"));
        // In place of another there is room.
        blocks.add(block("user", "user-7", None, false)).unwrap();
    }
}
