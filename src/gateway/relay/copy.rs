//! The copying relay: through a buffer of this process.

use super::{Course, RelayError, Stop};

/// Moves bytes through a buffer of `size` until the sender's FIN, or until at least `limit` bytes
/// have moved. The buffer is made when the first byte is there.
pub(super) async fn copy(
    course: &mut Course<'_>,
    size: usize,
    limit: u64,
) -> Result<Stop, RelayError> {
    course.readable().await?;
    let mut buffer = vec![0; size];
    let mut moved = 0;
    while moved < limit {
        let bytes = course.receive(|from| from.try_read(&mut buffer)).await?;
        if bytes == 0 {
            return Ok(Stop::Fin);
        }
        course
            .deliver(bytes, |to, gone| to.try_write(buffer.get(gone..bytes).unwrap_or_default()))
            .await?;
        moved += bytes as u64;
    }
    Ok(Stop::Limit)
}
