//! A body read within bounds of size and time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::time::{Instant, timeout_at};

use crate::outcome::Answer;

/// A declared length is only believed up to here, until as much has come; then for the rest, at once: a buffer that grows
/// by doubling is copied each time, and leaves its halves to the allocator.
const FIRST_ROOM: usize = 16 * 1024;
/// What is read of a refused body and thrown away, so that the sender, still writing, gets to read the answer instead
/// of a reset.
const MAX_DISCARDED: u64 = 8 << 20;
/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// Whether the body's declared length is over the limit.
pub(super) fn is_declared_over(body: &impl Body, max: u64) -> bool {
    body.size_hint().lower() > max
}

/// The whole body, of at most `max` bytes, by `by`.
///
/// # Errors
/// [`Answer::BodyTooLarge`], [`Answer::RequestTimeout`], or [`Answer::BodyIncomplete`].
pub(super) async fn read(body: &mut (impl Body<Data = Bytes> + Unpin), max: u64, by: Instant) -> Result<Bytes, Answer> {
    let declared = usize::try_from(body.size_hint().lower().min(max)).unwrap_or_default();
    let mut whole = BytesMut::new();
    loop {
        match timeout_at(by, body.frame()).await {
            Err(_) => return Err(Answer::RequestTimeout),
            Ok(Some(Err(_))) => return Err(Answer::BodyIncomplete),
            Ok(None) => return Ok(whole.freeze()),
            Ok(Some(Ok(frame))) => {
                // Trailers are no part of what is signed.
                let Ok(data) = frame.into_data() else { continue };
                if length(&whole) + length(&data) > max {
                    return Err(Answer::BodyTooLarge);
                }
                // As most come: all of it at once, and there is no need to copy it.
                if whole.is_empty() && body.is_end_stream() {
                    return Ok(data);
                }
                if whole.len() + data.len() > whole.capacity() {
                    let believed = if whole.is_empty() { declared.min(FIRST_ROOM) } else { declared };
                    whole.reserve(believed.saturating_sub(whole.len()).max(data.len()));
                }
                whole.extend_from_slice(&data);
            }
        }
    }
}

/// Reads what is left of a refused body and forgets it, within bounds.
pub(super) async fn discard(body: &mut (impl Body<Data = Bytes> + Unpin)) {
    let by = Instant::now() + DISCARD_TIME;
    let mut discarded = 0;
    while let Ok(Some(Ok(frame))) = timeout_at(by, body.frame()).await {
        discarded += frame.data_ref().map_or(0, |data| length(data));
        if discarded > MAX_DISCARDED {
            return;
        }
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    async fn read_within(body: &'static [u8], max: u64) -> Result<Bytes, Answer> {
        read(&mut Full::from(body), max, Instant::now() + Duration::from_secs(1)).await
    }

    #[tokio::test]
    async fn the_limit_itself_fits() {
        assert_eq!(read_within(b"12345", 5).await, Ok(Bytes::from_static(b"12345")));
        assert_eq!(read_within(b"123456", 5).await, Err(Answer::BodyTooLarge));
        assert_eq!(read_within(b"", 0).await, Ok(Bytes::new()));
        assert!(!is_declared_over(&Full::<Bytes>::from("12345"), 5));
        assert!(is_declared_over(&Full::<Bytes>::from("123456"), 5));
    }
}
