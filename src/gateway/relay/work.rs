//! The working relay: for bytes that TLS or ASCII type makes different on the two sides.
//!
//! Each piece is read, opened, translated, sealed and written before the next is read, so what is
//! in our hands is bounded. With TLS the sender's end is its close_notify and nothing else.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

use super::{BULK, Passage, Progress, RelayError, stalled};
use crate::ftp::ascii::Translator;
use crate::gateway::access::Rate;
use crate::gateway::data_connection::{DataConnection, hear_aside, send_now};
use crate::tls::Tls;

/// The first reads, for small files: two records of TLS.
const SMALL_CHUNK: usize = 32 * 1024;
/// Later ones.
const LARGE_CHUNK: usize = 128 * 1024;
/// Answers to a sender's TLS that it does not take, after which it is not heard any more.
const UNSENT_LIMIT: usize = 64 * 1024;

/// Moves all that `from` sends into `to`'s socket, through TLS where there is any and through
/// `ascii` if that is wanted. The end is not passed on, but the socket has room for it. A sender's
/// close_notify is answered at once: it may wait for that, and it says nothing of success.
///
/// For all else see [`super::relay`].
pub(in crate::gateway) async fn work(
    from: &mut DataConnection,
    to: &mut DataConnection,
    ascii: Option<Translator>,
    rate: Option<&Rate>,
    idle: Duration,
    progress: &Progress,
) -> Result<(), RelayError> {
    tokio::select! {
        biased;
        result = run(from, to, ascii, rate, progress) => result,
        () = stalled(progress, idle) => Err(RelayError::Idle(idle)),
    }
}

async fn run(
    from: &mut DataConnection,
    to: &mut DataConnection,
    mut ascii: Option<Translator>,
    rate: Option<&Rate>,
    progress: &Progress,
) -> Result<(), RelayError> {
    let DataConnection { stream: source, tls: source_tls, unsent, .. } = from;
    let DataConnection { stream: sink, tls: sink_tls, .. } = to;
    let mut passage = Passage::new(source, sink, rate, progress);
    let [mut chunk, mut opened, mut text] = [const { Vec::new() }; 3];
    // What came right behind the handshake is inside TLS already.
    let mut inside = source_tls.is_some();
    loop {
        let count = if std::mem::take(&mut inside) {
            0
        } else {
            if chunk.is_empty() {
                passage.readable().await?;
                chunk.resize(passage.piece(SMALL_CHUNK), 0);
            } else if progress.received() > BULK {
                chunk.resize(passage.piece(LARGE_CHUNK), 0);
            }
            let count = passage.receive(|from| from.try_read(&mut chunk)).await?;
            if count == 0 && source_tls.is_some() {
                return Err(RelayError::Truncated);
            }
            count
        };
        let read = chunk.get(..count).unwrap_or_default();
        let (payload, ended) = match source_tls {
            Some(tls) => {
                opened.clear();
                let ended = open(source, tls, unsent, read, &mut opened)?;
                (opened.as_slice(), ended)
            }
            None => (read, read.is_empty()),
        };
        progress.receive(payload.len());
        // All is here: what becomes of the connection now takes nothing away.
        passage.from_ended |= ended;
        let payload = match &mut ascii {
            Some(translator) => {
                text.clear();
                translator.translate(payload, &mut text);
                if ended {
                    translator.finish(&mut text);
                }
                text.as_slice()
            }
            None => payload,
        };
        let size = payload.len();
        match sink_tls {
            Some(tls) => {
                hear_aside(sink, tls).map_err(RelayError::To)?;
                tls.seal_inside(payload);
                passage.deliver_sealed(tls, size).await?;
            }
            None => {
                let write =
                    |to: &TcpStream, gone| to.try_write(payload.get(gone..).unwrap_or_default());
                passage.deliver(size, size, write).await?;
            }
        }
        if ended {
            // For the close_notify, which must not wait once the end is to be told.
            return if sink_tls.is_some() { passage.room().await } else { Ok(()) };
        }
    }
}

/// Opens what was read, and answers what TLS wants answered. Says whether the sender has ended.
fn open(
    source: &TcpStream,
    tls: &mut Tls,
    unsent: &mut Vec<u8>,
    read: &[u8],
    opened: &mut Vec<u8>,
) -> Result<bool, RelayError> {
    let result = tls.open(read, opened);
    let ended = result.is_ok() && tls.peer_closed();
    if ended {
        tls.close(unsent);
    } else {
        // Also the alert that says what was wrong.
        tls.output(unsent);
    }
    // A sender that has ended, or cannot go on, need not take it.
    let answered = send_now(source, unsent);
    result.map_err(|error| RelayError::From(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    if !ended {
        answered.map_err(RelayError::From)?;
        if unsent.len() > UNSENT_LIMIT {
            let why = io::Error::other("it asks for answers that it does not take");
            return Err(RelayError::From(why));
        }
    }
    Ok(ended)
}
