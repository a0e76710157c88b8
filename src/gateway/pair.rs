//! Both data connections of a transfer, and its bytes on their way from one to the other.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::info;

use super::access::Rate;
use super::data_connection::DataConnection;
use super::protection::{Handshake, Protection, shake_hands};
use super::relay::{End, PipeBudget, Progress, relay, work};
use crate::ftp::Direction;
use crate::ftp::ascii::Translator;
use crate::ftp::dialogue::DataFailure;
use crate::tls::UpstreamTls;

/// How a transfer's bytes go.
#[derive(Debug, Clone)]
pub(super) struct Course {
    pub(super) direction: Direction,
    /// Line ends are translated.
    pub(super) ascii: bool,
    /// The client's TLS, if it wants its data protected.
    pub(super) protection: Option<Protection>,
    /// They go no faster than that.
    pub(super) rate: Option<Arc<Rate>>,
}

/// What is known of the upstream's connection since it was dialled.
pub(super) struct Dialled {
    pub(super) tls: Option<UpstreamTls>,
    pub(super) timeout: Duration,
}

/// Both data connections.
pub(super) struct Pair {
    pub(super) client: DataConnection,
    pub(super) upstream: DataConnection,
    pub(super) dialled: Dialled,
}

impl Pair {
    /// Moves the bytes of a transfer to its receiver's socket, behind the TLS handshakes that there
    /// must be: after a failure of any of them neither side has seen a byte of the other.
    pub(super) async fn relay(
        &mut self,
        course: Course,
        pipes: &PipeBudget,
        idle: Duration,
        progress: &Progress,
        seen: &OnceLock<Handshake>,
    ) -> Result<(), DataFailure> {
        let (started, direction) = (Instant::now(), course.direction);
        if self.is_direct(&course) {
            let (from, to) = self.in_order(direction);
            relay(&from.stream, &to.stream, pipes, course.rate.as_deref(), idle, progress)
                .await
                .map_err(|error| whose_fault(error.end(), direction))?;
        } else {
            // On its own, so that the others' memory does not grow by it.
            Box::pin(self.work(course, idle, progress, seen)).await?;
        }
        if direction == Direction::Upload
            && let Some(wait) = last_look(started.elapsed())
        {
            sleep(wait).await;
        }
        Ok(())
    }

    /// Whether both sides have the same bytes.
    fn is_direct(&self, course: &Course) -> bool {
        !course.ascii && course.protection.is_none() && self.dialled.tls.is_none()
    }

    /// Moves the bytes of a course that is not direct.
    async fn work(
        &mut self,
        course: Course,
        idle: Duration,
        progress: &Progress,
        seen: &OnceLock<Handshake>,
    ) -> Result<(), DataFailure> {
        let Course { direction, ascii, protection, rate } = course;
        let limit = protection.as_ref().map_or(self.dialled.timeout, |it| it.handshake);
        shake_hands(
            (&mut self.client, protection.as_ref()),
            (&mut self.upstream, self.dialled.tls.as_ref()),
            direction,
            limit,
            seen,
        )
        .await?;
        let (from, to) = self.in_order(direction);
        let ascii = ascii.then(|| Translator::new(direction));
        work(from, to, ascii, rate.as_deref(), idle, progress).await.map_err(|error| {
            info!(%error, "a transfer is cut");
            whose_fault(error.end(), direction)
        })
    }

    /// The sender and the receiver.
    pub(super) fn in_order(
        &mut self,
        direction: Direction,
    ) -> (&mut DataConnection, &mut DataConnection) {
        match direction {
            Direction::Upload => (&mut self.client, &mut self.upstream),
            Direction::Download | Direction::Listing => (&mut self.upstream, &mut self.client),
        }
    }

    /// Ends both.
    pub(super) fn close(self) {
        self.client.close();
        self.upstream.close();
    }
}

/// How long an upload's FIN is held back, so that the FIN of the client's control connection can
/// be seen first if the client has died.
///
/// A client that dies sends FIN on both connections within microseconds, and Linux closes the one
/// opened last, the data connection, first. Without this wait that FIN would be passed on as the
/// end of the file. The wait grows with the upload, and so with the chance that its client dies in
/// it: nothing below 4 ms, then 1 ms, from 16 ms on a sixteenth up to 10 ms, then a hundredth up to
/// 250 ms.
fn last_look(duration: Duration) -> Option<Duration> {
    const LEAST: Duration = Duration::from_millis(1);
    let short = (duration / 16).clamp(LEAST, LEAST * 10);
    let long = (duration / 100).min(LEAST * 250);
    // The runtime sleeps in whole milliseconds, so that even no time at all would last one.
    (duration >= LEAST * 4).then(|| short.max(long))
}

/// On which side a relay broke.
fn whose_fault(end: End, direction: Direction) -> DataFailure {
    match (end, direction) {
        (End::Idle, _) => DataFailure::Idle,
        (End::Truncated, Direction::Upload) => DataFailure::Truncated,
        (End::From, Direction::Upload) | (End::To, Direction::Download | Direction::Listing) => {
            DataFailure::Client
        }
        (End::To, Direction::Upload)
        | (End::From | End::Truncated, Direction::Download | Direction::Listing) => {
            DataFailure::Upstream
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_look_grows_with_the_upload_and_a_tiny_one_waits_for_nothing() {
        let look = |upload| last_look(Duration::from_millis(upload)).map(|wait| wait.as_millis());
        for (upload, wait) in [(4, 1), (16, 1), (32, 2), (160, 10), (1_000, 10), (5_000, 50)] {
            assert_eq!(look(upload), Some(wait), "{upload} ms");
        }
        assert_eq!(look(3_600_000), Some(250));
        assert_eq!([look(0), look(3)], [None, None]);
    }
}
