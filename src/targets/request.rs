//! A record as a request: its JSON form, and who signed it.

use super::sign::SigningKey;
use crate::event::{Record, Timestamp, ToJson as _};

/// What is sent for one record, whatever the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Header names and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// POST of the record as JSON. `webhook-id` is the event's id on every try, which is what makes a repeat safe;
    /// the timestamp is the try's own, so that a receiver may refuse old ones. Signed where there is a key.
    #[must_use]
    pub fn of(record: &Record, key: Option<&SigningKey>, now: Timestamp) -> Self {
        let body = record.to_json().to_string().into_bytes();
        let id = record.event_id();
        let timestamp_s = now.as_millis().div_euclid(1000);
        let mut headers = vec![
            ("content-type", "application/json".to_owned()),
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", timestamp_s.to_string()),
        ];
        if let Some(key) = key {
            headers.push(("webhook-signature", key.sign(id, timestamp_s, &body)));
        }
        Self { headers, body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::event::{FeedRecord, Sha256};

    #[test]
    fn a_repeat_has_the_same_id_and_body() {
        let record = Record::from(FeedRecord {
            event_id: "e-1".to_owned(),
            source: "accelex".to_owned(),
            event_type: "feed.updated".to_owned(),
            entity_id: "f-1".to_owned(),
            occurred_at: None,
            received_at: Timestamp::from_micros(0),
            body_sha256: Sha256::of(b""),
            work_unit_id: None,
            provenance: None,
            validation: Vec::new(),
            attributes: r#"{"amount":0.1}"#.to_owned(),
            bank_feed_id: None,
            bank: None,
            transactions_imported: None,
            synced_at: None,
        });
        let key = SigningKey::read(&Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
        let first = Request::of(&record, Some(&key), Timestamp::from_micros(1_614_265_330_999_999));
        let second = Request::of(&record, Some(&key), Timestamp::from_micros(1_614_265_331_000_000));
        assert_eq!(first.body, second.body);
        assert_eq!(first.headers[1], ("webhook-id", "e-1".to_owned()));
        assert_eq!(first.headers[2], ("webhook-timestamp", "1614265330".to_owned()));
        assert_eq!(first.headers[3].1, key.sign("e-1", 1_614_265_330, &first.body));
        assert_ne!(first.headers[3], second.headers[3]);
        assert_eq!(Request::of(&record, None, Timestamp::default()).headers.len(), 3);
    }
}
