//! What an answer's headers say of a limit: a pure function of headers, verdict and time.

use std::time::Duration;

use super::classify::{MAX_RETRY_AFTER, Verdict, wait};
use super::rules::Received;
use crate::config::description::{Limits, ResetForm};
use crate::event::{AttemptOutcome, Timestamp};

/// The first second since 1970 that a number is taken for where its form is not said: 2001. No limit takes as many
/// seconds, 31 years, to be full again.
const EPOCH_FROM: u64 = 1_000_000_000;
/// The last one: the end of 9999. Beyond it a number counts something else, e.g. milliseconds.
const EPOCH_TO: u64 = 253_402_300_799;

/// How long nothing is left of the target's limit, at most [`MAX_RETRY_AFTER`]; none where something is left, or what
/// the headers say cannot be understood. `verdict` is what the answer means without them.
///
/// What `Retry-After` says of a refusal goes before what the other headers say. In a refusal by the limit, nothing is
/// left whether or not a header says so.
pub(super) fn spent(limits: &Limits, received: &Received, verdict: &Verdict, now: Timestamp) -> Option<Duration> {
    let refused = verdict.outcome == AttemptOutcome::RateLimited;
    if refused && verdict.retry_after.is_some() {
        return None;
    }
    let remaining = limits.remaining.as_ref().and_then(|name| received.header(name));
    let nothing_left = match remaining {
        Some(text) => whole(text.trim()) == Some(0),
        None => refused,
    };
    if !nothing_left {
        return None;
    }
    until(limits.reset_is, received.header(&limits.reset)?.trim(), now).filter(|wait| !wait.is_zero())
}

/// The time until a limit is full again, as this text says.
fn until(form: ResetForm, text: &str, now: Timestamp) -> Option<Duration> {
    let number = whole(text);
    let wait = match (form, number) {
        (ResetForm::Seconds, Some(seconds)) => Duration::from_secs(seconds),
        (ResetForm::Epoch, Some(second)) => since_epoch(second)?.since(now),
        (ResetForm::Any, Some(number)) => match number {
            0..EPOCH_FROM => Duration::from_secs(number),
            second => since_epoch(second)?.since(now),
        },
        // A number of which nobody said what it counts is no date.
        (ResetForm::Any | ResetForm::Date, None) => match Timestamp::parse(text) {
            Ok(time) => time.since(now),
            Err(_) => wait(text, now)?,
        },
        (ResetForm::Date, Some(_)) | (ResetForm::Seconds | ResetForm::Epoch, None) => return None,
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn since_epoch(second: u64) -> Option<Timestamp> {
    let second = i64::try_from(second).ok().filter(|_| second <= EPOCH_TO)?;
    Some(Timestamp::from_micros(second * 1_000_000))
}

/// A number of digits alone; one that does not fit is as large as any can be.
fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::classify::of_answer;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000); // Tue, 14 Nov 2023 22:13:20 GMT
    const DAY: Option<u64> = Some(86_400);

    fn limits(remaining: Option<&str>, reset_is: ResetForm) -> Limits {
        Limits { remaining: remaining.map(str::to_owned), reset: "X-Reset".to_owned(), reset_is }
    }

    fn received(headers: &[(&str, &str)]) -> Received {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Received { headers, ..Received::default() }
    }

    fn seconds(limits: &Limits, status: u16, after: Option<&str>, headers: &[(&str, &str)]) -> Option<u64> {
        let verdict = of_answer(status, after, NOW);
        spent(limits, &received(headers), &verdict, NOW).map(|wait| wait.as_secs())
    }

    #[test]
    fn resets_in_every_form() {
        use ResetForm::{Any, Date, Epoch, Seconds};
        for (text, any, in_seconds, epoch, date) in [
            ("41", Some(41), Some(41), None, None),
            (" 41 ", Some(41), Some(41), None, None),
            ("0", None, None, None, None),
            ("86401", DAY, DAY, None, None),
            ("999999999", DAY, DAY, None, None),
            ("1700000030", Some(30), DAY, Some(30), None),
            // The limit was full before the answer came.
            ("1699999990", None, DAY, None, None),
            ("1800000000", DAY, DAY, DAY, None),
            ("1700000030000", None, DAY, None, None),
            ("99999999999999999999999999", None, DAY, None, None),
            ("Tue, 14 Nov 2023 22:13:50 GMT", Some(30), None, None, Some(30)),
            ("Tue, 14 Nov 2023 22:13:10 GMT", None, None, None, None),
            ("Fri, 31 Dec 9999 23:59:59 GMT", DAY, None, None, DAY),
            ("2023-11-14T22:13:50Z", Some(30), None, None, Some(30)),
            ("2023-11-14T23:13:50.000+01:00", Some(30), None, None, Some(30)),
            ("2023-11-14T22:14Z", Some(40), None, None, Some(40)),
            ("2023-11-14 22:13:50", None, None, None, None),
            ("-5", None, None, None, None),
            ("+5", None, None, None, None),
            ("1.5", None, None, None, None),
            ("soon", None, None, None, None),
            ("", None, None, None, None),
        ] {
            for (form, wait) in [(Any, any), (Seconds, in_seconds), (Epoch, epoch), (Date, date)] {
                let limits = limits(Some("X-Left"), form);
                let found = seconds(&limits, 201, None, &[("x-left", "0"), ("x-reset", text)]);
                assert_eq!(found, wait, "{text:?} as {form:?}");
            }
        }
    }

    #[test]
    fn only_what_is_used_up_counts() {
        let both = limits(Some("X-Left"), ResetForm::Any);
        for (left, wait) in [
            ("0", Some(9)),
            (" 0 ", Some(9)),
            ("00", Some(9)),
            ("1", None),
            ("699", None),
            ("99999999999999999999999999", None),
            ("-1", None),
            ("0.5", None),
            ("none", None),
            ("", None),
        ] {
            for status in [200, 201, 404, 422, 500] {
                assert_eq!(seconds(&both, status, None, &[("x-left", left), ("x-reset", "9")]), wait, "{left:?}");
            }
        }
        assert_eq!(seconds(&both, 200, None, &[("x-left", "0")]), None, "until when is not said");
        assert_eq!(seconds(&both, 200, None, &[("x-reset", "9")]), None, "what is left is not said");
        assert_eq!(seconds(&both, 200, None, &[]), None);
    }

    #[test]
    fn a_refusal_needs_no_other_word_and_retry_after_goes_before() {
        let reset = &[("x-reset", "9")];
        for limits in [limits(Some("X-Left"), ResetForm::Any), limits(None, ResetForm::Any)] {
            assert_eq!(seconds(&limits, 429, None, reset), Some(9));
            assert_eq!(seconds(&limits, 429, Some("soon"), reset), Some(9));
            assert_eq!(seconds(&limits, 429, Some("2"), reset), None);
            assert_eq!(seconds(&limits, 503, Some("2"), reset), None);
            assert_eq!(seconds(&limits, 500, Some("2"), reset), None, "no refusal by the limit");
            assert_eq!(seconds(&limits, 200, None, reset), None);
        }
        let both = limits(Some("X-Left"), ResetForm::Any);
        assert_eq!(seconds(&both, 429, None, &[("x-left", "3"), ("x-reset", "9")]), None, "another limit refused");
    }
}
