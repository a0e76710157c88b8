//! The copying relay: through a buffer of this process.

use super::{Passage, RelayError, Stop};

/// Moves bytes through a buffer of `size` until the sender's FIN, or until at least `limit` bytes
/// have moved. The buffer is made when the first byte is there.
pub(super) async fn copy(
    passage: &mut Passage<'_>,
    size: usize,
    limit: u64,
) -> Result<Stop, RelayError> {
    passage.readable().await?;
    // Not filled with zeros first: most files are smaller than it is.
    let mut buffer = Vec::with_capacity(passage.piece(size));
    let mut moved = 0;
    while moved < limit {
        buffer.clear();
        let bytes = passage.receive(|from| from.try_read_buf(&mut buffer)).await?;
        if bytes == 0 {
            return Ok(Stop::Fin);
        }
        passage.progress.receive(bytes);
        passage
            .deliver(bytes, bytes, |to, gone| {
                to.try_write(buffer.get(gone..bytes).unwrap_or_default())
            })
            .await?;
        moved += bytes as u64;
    }
    Ok(Stop::Limit)
}
