//! The file of blocks that survive a restart.
//!
//! A file that is not there holds none. One that cannot be read, or that makes no sense, stops a node
//! from starting: what it kept out would come in again, and nobody would know. The peer serves
//! meanwhile.

use crate::rfc3339;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Block, Target};

/// The shape of the file.
const VERSION: u32 = 1;
/// The directory of the file, if it has to be made.
const DIRECTORY_MODE: u32 = 0o750;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It makes no sense.
    #[error(
        "{}: this file of blocks is damaged ({why}): repair it, or remove it and block anew what it held (`ftpgate block --keep`)",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It cannot be read.
    #[error("{}: this file of blocks cannot be read ({error}): let the user that runs ftpgate read it, or change admin.state", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It cannot be written.
    #[error("{} cannot be written ({error}): let the user that runs ftpgate write there, or change admin.state", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    blocks: Vec<KeptBlock>,
}

/// One of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptBlock {
    kind: String,
    what: String,
    message: Option<String>,
    /// By the clock on the wall, as are all times: a restart may take long.
    since: String,
    until: Option<String>,
}

/// The blocks in the file.
pub(super) fn read(path: &Path) -> Result<Vec<Block>, StateError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StateError::Unreadable { path: path.into(), error }),
    };
    parse(&text).map_err(|why| StateError::Damaged { path: path.into(), why })
}

fn parse(text: &[u8]) -> Result<Vec<Block>, String> {
    let kept: Kept = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if kept.version != VERSION {
        return Err(format!("its version is {}, not {VERSION}", kept.version));
    }
    kept.blocks.into_iter().map(KeptBlock::into_block).collect()
}

/// Puts these blocks into the file: it holds the old ones or the new ones, whenever the power goes.
pub(super) fn write(path: &Path, blocks: &[Block]) -> Result<(), StateError> {
    let kept = Kept { version: VERSION, blocks: blocks.iter().map(KeptBlock::of).collect() };
    replace(path, &kept).map_err(|error| StateError::Unwritable { path: path.into(), error })
}

fn replace(path: &Path, kept: &Kept) -> io::Result<()> {
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| Path::new("."));
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(kept)?)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // The new name, too, must be on the disk.
    File::open(directory)?.sync_all()
}

impl KeptBlock {
    pub(super) fn of(block: &Block) -> Self {
        let time = rfc3339::text;
        Self {
            kind: block.target.kind().into(),
            what: block.target.what(),
            message: block.message.clone(),
            since: time(block.since),
            until: block.until.map(time),
        }
    }

    pub(super) fn into_block(self) -> Result<Block, String> {
        let time = |text: &str| -> Result<SystemTime, String> {
            humantime::parse_rfc3339(text).map_err(|error| format!("{text}: {error}"))
        };
        Ok(Block {
            target: Target::parse(&self.kind, &self.what)?,
            message: self.message,
            since: time(&self.since)?,
            until: self.until.as_deref().map(time).transpose()?,
            keep: true,
        })
    }
}
