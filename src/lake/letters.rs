//! Dead letters of the lake: records that do not fit their table, each small enough for Kafka to take. One that it refuses
//! would stop its table for good.

use super::error::Unfit;
use crate::avro::AvroError;
use crate::event::{DeadLetter, Timestamp};
use crate::kafka::codec::Encoder;
use crate::kafka::headers::Headers;
use crate::kafka::produce::{Outgoing, ProduceError, Producer};
use crate::outcome::DeadLetterReason;
use crate::topics::{FRAME_BYTES, MAX_VALUE_BYTES};

/// Name under which they go, in place of a target's.
pub const TARGET: &str = "lake";
/// Longest key that is kept. Ours are a few hundred bytes; a stranger's may be as large as a record.
const MAX_KEY_BYTES: usize = FRAME_BYTES / 2;
/// Most of a record that is kept: what stands beside it in a letter is far less than this leaves.
const MAX_KEPT_BYTES: usize = MAX_VALUE_BYTES - FRAME_BYTES;
/// Longest reason in words: a stranger's schema may have names of any length.
const MAX_DETAIL_CHARS: usize = 1000;
/// Letters on their way at one time.
const AT_ONCE: usize = 500;

/// Why letters could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum LetterError {
    /// One does not fit its schema: a fault of this program.
    #[error("cannot write a dead letter: {0}")]
    Row(#[from] AvroError),
    /// Kafka did not take one.
    #[error(transparent)]
    Send(#[from] ProduceError),
}

/// A dead letter with its record's key.
pub(super) struct Letter {
    key: Vec<u8>,
    letter: DeadLetter,
}

impl Letter {
    /// What it holds of its record.
    pub(super) fn bytes(&self) -> usize {
        self.key.len() + self.letter.undecodable.as_ref().map_or(0, Vec::len)
    }
}

/// The letter of a record of `topic` (without prefix) at this partition and offset.
pub(super) fn letter(
    topic: &str,
    (record_partition, record_offset): (i32, i64),
    mut key: Vec<u8>,
    value: Vec<u8>,
    unfit: &Unfit,
) -> Letter {
    let reason = match unfit {
        Unfit::Undecodable(_) => DeadLetterReason::Undecodable,
        _ => DeadLetterReason::DoesNotFit,
    };
    let mut detail: String = unfit.to_string().chars().take(MAX_DETAIL_CHARS).collect();
    if key.len() > MAX_KEY_BYTES {
        detail = format!("{detail} (the first {MAX_KEY_BYTES} of {} bytes of its key)", key.len());
        key.truncate(MAX_KEY_BYTES);
        key.shrink_to_fit();
    }
    let mut letter = DeadLetter {
        target: TARGET.to_owned(),
        event_id: String::new(),
        source: String::new(),
        record_topic: topic.to_owned(),
        record_partition,
        record_offset,
        record: None,
        undecodable: Some(value),
        reason: reason.name().to_owned(),
        detail: Some(detail),
        dead_at: Timestamp::now(),
        attempts_total: 0,
        attempts: Vec::new(),
        replay_id: None,
        settled: None,
    };
    letter.shorten(MAX_KEPT_BYTES);
    Letter { key, letter }
}

/// Writes letters to `topic` (Kafka's name) and waits until Kafka has all of them.
///
/// # Errors
/// When one cannot be written; any of the others may be there.
pub(super) async fn send(
    producer: &Producer,
    topic: &str,
    encoder: &Encoder,
    letters: Vec<Letter>,
) -> Result<(), LetterError> {
    let mut letters = letters.into_iter();
    loop {
        let mut sent = Vec::new();
        for Letter { key, letter } in letters.by_ref().take(AT_ONCE) {
            let (topic, value) = (topic.to_owned(), encoder.encode(&letter)?);
            let headers = Headers::default();
            sent.push(producer.enqueue(&Outgoing {
                topic,
                partition: None,
                key,
                value,
                headers,
                timestamp_ms: None,
            })?);
        }
        if sent.is_empty() {
            return Ok(());
        }
        for sending in sent {
            producer.acknowledged(sending).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::{self, MAX_RECORD_BYTES};

    #[test]
    fn a_letter_is_whole_where_it_fits_and_fits_where_it_is_not() {
        let encoder = Encoder::new("DeadLetter", 1).unwrap();
        let largest = topics::RECORDS.iter().map(|(topic, _)| topic.len()).max().unwrap();
        let (topic, most) = ("t".repeat(largest), MAX_RECORD_BYTES as usize);
        let long = Unfit::Undecodable("\u{1f600}".repeat(most / 4));
        for (key, value, unfit, said) in [
            (10, MAX_KEPT_BYTES, Unfit::Short, "the record ends too early"),
            (
                MAX_KEY_BYTES,
                most,
                Unfit::Short,
                "the record ends too early (the first 4063232 of 4194304 bytes; all stand in the record topic)",
            ),
            (most, 10, Unfit::Short, "the record ends too early (the first 32768 of 4194304 bytes of its key)"),
            (most / 2, most / 2, long.clone(), "\u{1f600} (the first 32768 of 2097152 bytes of its key)"),
            (MAX_KEY_BYTES, most, long, "bytes; all stand in the record topic)"),
        ] {
            let at = (i32::MAX, i64::MAX);
            let letter = letter(&topic, at, vec![1; key], vec![2; value], &unfit);
            assert_eq!(letter.bytes(), key.min(MAX_KEY_BYTES) + value.min(MAX_KEPT_BYTES));
            assert!(letter.letter.detail.as_ref().unwrap().ends_with(said), "{:?}", letter.letter.detail);
            assert_eq!((letter.letter.record_partition, letter.letter.record_offset), at);
            let written = encoder.encode(&letter.letter).unwrap();
            assert!(written.len() <= MAX_VALUE_BYTES && written.len() + letter.key.len() <= most);
        }
    }
}
