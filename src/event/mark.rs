//! What an operator asks of a quarantined event: headers of a row of `received.*` that Ledgerhook alone writes. The
//! receiver gives its rows a fixed set of headers, so no provider can set these.

/// Id of the operation, on a row that is to be decided or delivered again.
pub const REPLAY_HEADER: &str = "lh_replay_id";
const REPLAY: &str = REPLAY_HEADER;
/// Beside it, where another body of a known id is to be taken as a new revision.
const ACCEPT_REVISION: &str = "lh_accept_revision";
/// Beside it, where the row is the bytes themselves of one that could not be decoded.
const READ_AGAIN: &str = "lh_read_again";
/// Id of the operation, on a row that is to be let go.
const DISCARD: &str = "lh_discard_id";

/// An operator's word on a quarantined event, with the id of the operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Decide again.
    Replay {
        /// Id of the operation.
        id: String,
        /// Take another body of a known id as a new revision: one more record.
        accept_revision: bool,
        /// The row has the bytes that were set aside as undecodable: they may be an envelope by now, when the registry
        /// knows their schema.
        read_again: bool,
    },
    /// Let it go.
    Discard {
        /// Id of the operation.
        id: String,
    },
}

impl Mark {
    /// The mark that these headers make; `header` finds one by its name.
    #[must_use]
    pub fn read<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        // Letting go wins where both stand: the safer reading of what nobody writes.
        if let Some(id) = header(DISCARD) {
            return Some(Self::Discard { id: id.to_owned() });
        }
        let id = header(REPLAY)?.to_owned();
        let is_true = |name| header(name) == Some("true");
        Some(Self::Replay { id, accept_revision: is_true(ACCEPT_REVISION), read_again: is_true(READ_AGAIN) })
    }

    /// Its headers, names and values.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Discard { id } => vec![(DISCARD, id)],
            Self::Replay { id, accept_revision, read_again } => {
                let more = [(ACCEPT_REVISION, *accept_revision), (READ_AGAIN, *read_again)];
                let more = more.into_iter().filter(|(_, is_so)| *is_so).map(|(name, _)| (name, "true"));
                std::iter::once((REPLAY, id.as_str())).chain(more).collect()
            }
        }
    }

    /// Id of the operation.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Replay { id, .. } | Self::Discard { id } => id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_from_its_headers_and_from_no_others() {
        let id = || "op".to_owned();
        for mark in [
            Mark::Replay { id: id(), accept_revision: false, read_again: false },
            Mark::Replay { id: id(), accept_revision: true, read_again: false },
            Mark::Replay { id: id(), accept_revision: false, read_again: true },
            Mark::Replay { id: id(), accept_revision: true, read_again: true },
            Mark::Discard { id: id() },
        ] {
            let headers = mark.headers();
            let find = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
            assert_eq!(Mark::read(find), Some(mark.clone()));
            assert_eq!(mark.id(), "op");
        }
        assert_eq!(Mark::read(|_| None), None);
        assert_eq!(Mark::read(|name| (name == ACCEPT_REVISION).then_some("true")), None, "no operation");
        let both = Mark::read(|name| (name != ACCEPT_REVISION).then_some("x"));
        assert_eq!(both, Some(Mark::Discard { id: "x".to_owned() }));
    }
}
