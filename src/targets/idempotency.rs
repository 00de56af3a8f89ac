//! What a target offers against a second document, once an answer was lost.

use std::time::Duration;

/// How a target keeps a repeat from making a second document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idempotency {
    /// A keyed upsert: a repeat writes the same document once more.
    Upsert,
    /// The request carries a key, and a request with a key met before is answered without being acted on again.
    Key {
        /// How long after the first request a repeat may leave: as long as the target remembers keys, less the longest
        /// time that it may take to act on a request. None where it remembers them for ever.
        validity: Option<Duration>,
    },
    /// Documents can be searched by our id, and nothing else keeps them apart.
    LookUp {
        /// How long after the beginning of a try the target may still act on it: a search before that proves nothing.
        settle: Duration,
    },
    /// The target refuses a second document by itself; a refusal counts as success once the document proved to be ours.
    Reject,
}
