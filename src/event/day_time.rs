//! Points in time and calendar days, as our schemas hold them: UTC microseconds and days since 1970-01-01.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A point in time: microseconds since 1970-01-01T00:00:00Z (Avro `timestamp-micros`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

/// A calendar day: days since 1970-01-01 (Avro `date`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Date(i32);

/// Why a text is not a time or a day.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not {expected}")]
pub struct TimestampError {
    expected: &'static str,
}

const NOT_A_TIME: TimestampError = TimestampError { expected: "an RFC 3339 time such as 2026-05-02T09:14:03Z" };
const NOT_A_DAY: TimestampError = TimestampError { expected: "an ISO 8601 day such as 2026-05-02" };

impl Timestamp {
    /// The time now, by the system's clock.
    #[must_use]
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_microsecond())
    }

    /// The time this many microseconds after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since 1970-01-01T00:00:00Z: the unit of Kafka's record timestamps.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This time moved by `by`; stays at the end of the range where it would leave it.
    #[must_use]
    pub fn plus(self, by: std::time::Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero where it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads RFC 3339 with `Z` or an offset; digits beyond microseconds are cut.
    ///
    /// # Errors
    /// When the text is not such a time.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        // In pieces: jiff's own timestamp ends a day before the year 9999 does, and `9999-12-31T23:59:59Z` is how many
        // systems write "never". Its annotations (`[Europe/Rome]`) are no RFC 3339.
        let pieces = jiff::fmt::temporal::Pieces::parse(text).map_err(|_| NOT_A_TIME)?;
        let (Some(time), Some(offset)) = (pieces.time(), pieces.to_numeric_offset()) else { return Err(NOT_A_TIME) };
        if text.contains('[') {
            return Err(NOT_A_TIME);
        }
        let local = pieces.date().to_datetime(time).duration_since(EPOCH);
        let micros = local.as_micros() - i128::from(offset.seconds()) * 1_000_000;
        i64::try_from(micros).map(Self).map_err(|_| NOT_A_TIME)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with microseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match EPOCH.checked_add(jiff::SignedDuration::from_micros(self.0)) {
            Ok(time) => write!(f, "{time:.6}Z"),
            // Beyond the year 9999: no provider's time, but a record may hold any long.
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl Date {
    /// The day this many days after 1970-01-01.
    #[must_use]
    pub const fn from_days(days: i32) -> Self {
        Self(days)
    }

    /// Days since 1970-01-01.
    #[must_use]
    pub const fn as_days(self) -> i32 {
        self.0
    }

    /// Reads `2026-05-02`; of a full RFC 3339 time the day as written, whatever its offset.
    ///
    /// # Errors
    /// When the text starts with no such day.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let day = match text.split_once(['T', 't', ' ']) {
            // A longer text must be a whole time, not a day with something behind it.
            Some((day, _)) if Timestamp::parse(text).is_ok() => day,
            Some(_) => return Err(NOT_A_DAY),
            None => text,
        };
        let parsed: jiff::civil::Date = day.parse().map_err(|_| NOT_A_DAY)?;
        let days = parsed.duration_since(EPOCH_DAY).as_hours() / 24;
        i32::try_from(days).map(Self).map_err(|_| NOT_A_DAY)
    }
}

const EPOCH: jiff::civil::DateTime = jiff::civil::datetime(1970, 1, 1, 0, 0, 0, 0);
const EPOCH_DAY: jiff::civil::Date = jiff::civil::date(1970, 1, 1);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = jiff::SignedDuration::from_hours(i64::from(self.0) * 24);
        match EPOCH_DAY.checked_add(span) {
            Ok(day) => write!(f, "{day}"),
            Err(_) => write!(f, "{}d", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_microseconds() {
        for (text, shown) in [
            ("2026-04-15T14:32:00Z", "2026-04-15T14:32:00.000000Z"),
            ("2026-05-02T09:14:03.120Z", "2026-05-02T09:14:03.120000Z"),
            ("2026-05-02T11:14:03.1234567+02:00", "2026-05-02T09:14:03.123456Z"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
            ("1969-12-31T23:59:59.5-00:00", "1969-12-31T23:59:59.500000Z"),
        ] {
            assert_eq!(Timestamp::parse(text).map(|t| t.to_string()), Ok(shown.to_owned()));
        }
        for bad in ["", "2026-05-02", "2026-05-02T09:14:03", "yesterday", "1714641243", "2026-05-02T09:14:03Z[UTC]"] {
            assert_eq!(Timestamp::parse(bad), Err(NOT_A_TIME), "{bad}");
        }
    }

    #[test]
    fn days_are_days_as_written() {
        for (text, days) in
            [("1970-01-01", 0), ("1969-12-31", -1), ("2026-05-02", 20575), ("2026-05-02T23:30:00-05:00", 20575)]
        {
            assert_eq!(Date::parse(text).map(Date::as_days), Ok(days), "{text}");
        }
        assert_eq!(Date::from_days(20575).to_string(), "2026-05-02");
        for bad in ["", "2026-13-01", "02.05.2026", "2026-05-02Tea"] {
            assert_eq!(Date::parse(bad), Err(NOT_A_DAY), "{bad}");
        }
    }

    #[test]
    fn any_long_can_be_shown() {
        assert_eq!(Timestamp::from_micros(i64::MAX).to_string(), "9223372036854775807us");
        assert!(!Date::from_days(i32::MAX).to_string().is_empty());
    }
}
