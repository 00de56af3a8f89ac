//! Durations and sizes: a whole number and its unit, `"5s"`, `"1MiB"`.

use std::time::Duration;

use super::fault::Complaint;

/// Largest first, so that formatting finds the shortest exact form.
const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads `"250ms"`, `"5s"`, `"2m"`, `"1h"`, `"30d"`.
pub(super) fn duration(text: &str) -> Result<Duration, Complaint> {
    let units = "units are ms, s, m, h, d";
    quantity(text, &DURATION_UNITS, "s", units).map(Duration::from_millis)
}

/// Reads `"4096B"`, `"512KiB"`, `"1MiB"`, `"10GiB"` into bytes.
pub(super) fn size(text: &str) -> Result<u64, Complaint> {
    let units = "units are B, KiB, MiB, GiB";
    quantity(text, &SIZE_UNITS, "B", units)
}

/// Writes a duration of whole milliseconds the way [`duration`] reads it.
pub(super) fn show_duration(value: Duration) -> String {
    // No configured duration exceeds u64 milliseconds, because reading refuses it.
    let millis = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    show(millis, &DURATION_UNITS, "0s")
}

/// Writes a number of bytes the way [`size`] reads it.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, &SIZE_UNITS, "0B")
}

fn quantity(text: &str, units: &[(&str, u64)], usual: &str, help: &str) -> Result<u64, Complaint> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(
            Complaint::new("is not a whole number with a unit").hint(format!("write it as \"5{usual}\"; {help}"))
        );
    }
    if unit.is_empty() {
        return Err(Complaint::new("has no unit").hint(format!("\"{number}{usual}\"? {help}")));
    }
    let factor = units.iter().find(|(name, _)| *name == unit);
    let Some((_, factor)) = factor else {
        let near = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()));
        let hint = match near {
            Some((name, _)) => format!("\"{number}{name}\"? {help}"),
            None => format!("{help}, and the number is a whole one"),
        };
        return Err(Complaint::new(format!("has an unknown unit `{unit}`")).hint(hint));
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor))
        .ok_or_else(|| Complaint::new("is too large"))
}

fn show(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    units
        .iter()
        .find(|(_, factor)| value > 0 && value.is_multiple_of(*factor))
        .map_or_else(|| zero.to_owned(), |(unit, factor)| format!("{}{unit}", value / factor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        for (text, millis) in
            [("0s", 0), ("250ms", 250), ("5s", 5_000), ("2m", 120_000), ("1h", 3_600_000), ("30d", 2_592_000_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("4096B", 4096), ("512KiB", 524_288), ("1MiB", 1_048_576), ("10GiB", 10_737_418_240)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_says_how_to_write_it() {
        for (complaint, what, hint) in [
            (duration("5").unwrap_err(), "has no unit", "\"5s\"?"),
            (duration("").unwrap_err(), "is not a whole number", "\"5s\""),
            (duration("-5s").unwrap_err(), "is not a whole number", "\"5s\""),
            (duration("1.5s").unwrap_err(), "unknown unit `.5s`", "a whole one"),
            (duration("5 s").unwrap_err(), "unknown unit ` s`", "\"5s\"?"),
            (duration("5sec").unwrap_err(), "unknown unit `sec`", "units are ms"),
            (duration("5S").unwrap_err(), "unknown unit `S`", "\"5s\"?"),
            (size("4096").unwrap_err(), "has no unit", "\"4096B\"?"),
            (size("1MB").unwrap_err(), "unknown unit `MB`", "MiB"),
            (size("1mib").unwrap_err(), "unknown unit `mib`", "\"1MiB\"?"),
        ] {
            assert!(complaint.what.contains(what), "{complaint:?}");
            assert!(complaint.hint.as_deref().unwrap().contains(hint), "{complaint:?}");
        }
        for text in ["99999999999999999999999s", "18446744073709551615d"] {
            assert_eq!(duration(text).unwrap_err().what, "is too large", "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_reads_back_as_written(millis in any::<u64>()) {
            let value = Duration::from_millis(millis);
            prop_assert_eq!(duration(&show_duration(value)), Ok(value));
        }

        #[test]
        fn round_durations_too(count in 0..1_000_u64, (unit, factor) in prop::sample::select(&DURATION_UNITS[..])) {
            let value = Duration::from_millis(count * factor);
            prop_assert_eq!(duration(&format!("{count}{unit}")), Ok(value));
            prop_assert_eq!(duration(&show_duration(value)), Ok(value));
        }

        #[test]
        fn a_size_reads_back_as_written(bytes in any::<u64>(), shift in 0..40_u32) {
            for bytes in [bytes, (bytes >> shift) << shift] {
                prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = duration(&text);
            let _ = size(&text);
        }
    }
}
