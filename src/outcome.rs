//! Outcomes and reasons: one enum each, whose names are at once metric labels, headers, stored values and docs.

/// Defines an enum of stable names.
macro_rules! names {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_meta])* $variant,)* }
        impl $name {
            /// Every name of this kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
            /// The value of this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)* _ => None }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

names! {
    /// What the receiver answered: the `code` of the answer and the `outcome` of
    /// `ledgerhook_receiver_requests_total`.
    Answer {
        /// 200: durable.
        Accepted = "accepted",
        /// 200: durable, a provider's test event.
        Test = "test",
        /// 200: durable, but unusable; the router quarantines it.
        Quarantined = "quarantined",
        /// 401: no signature header, or one of the headers that are signed is missing.
        SignatureMissing = "signature_missing",
        /// 401: no configured secret made this signature.
        SignatureInvalid = "signature_invalid",
        /// 401: signed for a time too far from ours.
        TimestampOutOfRange = "timestamp_out_of_range",
        /// 403: the sender's address is not one of the source's.
        AddressNotAllowed = "address_not_allowed",
        /// 403: no client certificate, or not one of the source's.
        ClientCertificateRequired = "client_certificate_required",
        /// 404: no source has this path.
        NotFound = "not_found",
        /// 405: not POST.
        MethodNotAllowed = "method_not_allowed",
        /// 408: the body did not come in time.
        RequestTimeout = "request_timeout",
        /// 413: the body is over the source's limit.
        BodyTooLarge = "body_too_large",
        /// 415: a content encoding; signatures cover what was sent.
        EncodingUnsupported = "encoding_unsupported",
        /// 431: the request's head is over the limit.
        HeadersTooLarge = "headers_too_large",
        /// 400: the connection ended or broke its framing before the body was whole.
        BodyIncomplete = "body_incomplete",
        /// 400: what came is no HTTP. The server says so itself, without this code.
        RequestMalformed = "request_malformed",
        /// 503: could not be made durable in time.
        NotDurable = "not_durable",
        /// 503: shutting down.
        ShuttingDown = "shutting_down",
        /// 503: over the concurrency limit.
        Overloaded = "overloaded",
    }
}

impl Answer {
    /// The HTTP status that goes with it.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Accepted | Self::Test | Self::Quarantined => 200,
            Self::BodyIncomplete | Self::RequestMalformed => 400,
            Self::SignatureMissing | Self::SignatureInvalid | Self::TimestampOutOfRange => 401,
            Self::AddressNotAllowed | Self::ClientCertificateRequired => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::EncodingUnsupported => 415,
            Self::HeadersTooLarge => 431,
            Self::NotDurable | Self::ShuttingDown | Self::Overloaded => 503,
        }
    }
}

names! {
    /// Why a verified body cannot be used; set by the receiver, acted on by the router.
    Unusable {
        /// Not one JSON value (or nested too deep to read safely).
        NotJson = "not_json",
        /// No JSON object at the top.
        NotAnObject = "not_an_object",
        /// A member that holds the id or the type stands there twice: two readers could see two events.
        DuplicateMember = "duplicate_member",
        /// None of the source's id pointers hits.
        EventIdMissing = "event_id_missing",
        /// The id is no string or integer, empty, over 255 bytes, or has control characters.
        EventIdInvalid = "event_id_invalid",
        /// The source's type pointers hit no string, or one that is empty, over 255 bytes or has control characters.
        EventTypeMissing = "event_type_missing",
    }
}

names! {
    /// Why an event counts as a provider's test: stored, never routed.
    TestMark {
        /// Its type is one of the source's `test_types`.
        EventType = "event_type",
        /// The secret that matched is marked `test`.
        Secret = "secret",
        /// The source's `test_when` holds.
        Pointer = "pointer",
    }
}

names! {
    /// What the router made of one row of `received`: `outcome` of `ledgerhook_router_events_total`.
    RouterOutcome {
        /// One record was written.
        Routed = "routed",
        /// The id was taken before, with this body.
        Duplicate = "duplicate",
        /// Set aside in `quarantine`.
        Quarantined = "quarantined",
        /// An operator let it go.
        Discarded = "discarded",
        /// A provider's test event.
        Test = "test",
    }
}

names! {
    /// Why the router set an event aside, beside the receiver's [`Unusable`] reasons.
    QuarantineReason {
        /// No route for this event type.
        UnknownEventType = "unknown_event_type",
        /// The id was taken before with another body.
        BodyMismatch = "body_mismatch",
        /// A number that `decimal(38,9)` cannot hold exactly.
        AmountOutOfRange = "amount_out_of_range",
        /// A member has another type than the record's field.
        MemberInvalid = "member_invalid",
        /// The object the route points at is missing or no object.
        MembersMissing = "members_missing",
        /// A row of `received` that cannot be decoded as an envelope.
        Undecodable = "undecodable",
        /// The record is larger than Kafka takes.
        RecordTooLarge = "record_too_large",
    }
}

names! {
    /// State of one record at one target.
    DeliveryState {
        /// Not finished yet.
        Waiting = "waiting",
        /// Behind a failed record of its entity.
        Parked = "parked",
        /// The target has it.
        Delivered = "delivered",
        /// The target does not want it.
        Filtered = "filtered",
        /// Given up.
        DeadLettered = "dead_lettered",
        /// An operator let it go.
        Discarded = "discarded",
    }
}

names! {
    /// What became of a dead letter.
    DeadLetterEnd {
        /// A replay delivered it.
        Delivered = "delivered",
        /// In a replay the target turned out not to want it, or to have had a newer one of its entity.
        Filtered = "filtered",
        /// An operator let it go.
        Discarded = "discarded",
    }
}

names! {
    /// Why delivery gave a record up.
    DeadLetterReason {
        /// The target refused it for good.
        Rejected = "rejected",
        /// `give_up_after` passed without success.
        GaveUp = "gave_up",
        /// The record cannot be decoded.
        Undecodable = "undecodable",
        /// The record does not fit the lake's table.
        DoesNotFit = "does_not_fit",
    }
}

names! {
    /// What is wrong with an event or record, where a ledger does not balance.
    Discrepancy {
        /// What should be there is not: a record, a row of `quarantine`, a marker, an end of a delivery.
        Missing = "missing",
        /// There is more than one of what may be there once.
        Double = "double",
        /// Something came of it that was never received, or recorded.
        WithoutSource = "without_source",
        /// A body is not the one that its digest is of, or a record's digest is of none of the received bodies.
        BodyHash = "body_hash",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for answer in Answer::ALL {
            assert_eq!(Answer::from_name(answer.name()), Some(*answer));
            assert!((200..600).contains(&answer.status()));
            assert_ne!(answer.status(), 410, "410 tells a provider to stop for good");
        }
        assert_eq!(Answer::from_name("fine"), None);
    }
}
