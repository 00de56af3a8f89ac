//! Exact decimals: Avro `decimal(38,9)`, read from JSON numbers without ever passing through a float.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Digits after the point: the scale of every decimal in our schemas.
const SCALE: u32 = 9;
/// Digits in all: the precision of every decimal in our schemas.
const PRECISION: u32 = 38;
const UNIT: i128 = 10_i128.pow(SCALE);
const LIMIT: i128 = 10_i128.pow(PRECISION) - 1;

/// An exact decimal number with up to 38 digits, 9 of them after the point.
///
/// The wire form (serde) is Avro's: the unscaled value as big-endian two's complement in as few bytes as hold it
/// ([Avro 1.12, decimal](https://avro.apache.org/docs/1.12.0/specification/#decimal)). People see it through
/// [`Display`](fmt::Display), without trailing zeros.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(i128);

/// Why a text is not a [`Decimal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Not a decimal number at all.
    #[error("is not a decimal number")]
    NotANumber,
    /// A number, but `decimal(38,9)` cannot hold it exactly.
    #[error("does not fit decimal(38,9) exactly")]
    OutOfRange,
}

impl Decimal {
    /// The number with this unscaled value (in units of 10^-9), if it has at most 38 digits.
    #[must_use]
    pub fn from_unscaled(unscaled: i128) -> Option<Self> {
        (-LIMIT..=LIMIT).contains(&unscaled).then_some(Self(unscaled))
    }

    /// The value in units of 10^-9.
    #[must_use]
    pub fn unscaled(self) -> i128 {
        self.0
    }
}

/// Reads JSON's number syntax, with or without exponent; the value counts, not its spelling, so `1.50000000000`,
/// `15e-1` and `1.5` are the same.
impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits_only = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty()
            || !digits_only(whole)
            || !digits_only(fraction)
            || (mantissa.contains('.') && fraction.is_empty())
        {
            return Err(DecimalError::NotANumber);
        }
        // Without the zeros that carry no value at either end, what is left must fit as it stands.
        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|b| b - b'0').collect();
        let mut scale = i64::try_from(fraction.len()).map_err(|_| DecimalError::OutOfRange)? - exponent;
        while digits.last() == Some(&0) {
            digits.pop();
            scale -= 1;
        }
        let significant = digits.iter().position(|d| *d != 0).unwrap_or(digits.len());
        let digits = &digits[significant..];
        if digits.is_empty() {
            return Ok(Self(0));
        }
        let shift = i64::from(SCALE) - scale;
        let fits = usize::try_from(shift).is_ok_and(|s| s.saturating_add(digits.len()) <= PRECISION as usize);
        if !fits {
            return Err(DecimalError::OutOfRange);
        }
        let magnitude = digits
            .iter()
            .copied()
            .chain(std::iter::repeat_n(0, usize::try_from(shift).unwrap_or(0)))
            .fold(0_i128, |sum, digit| sum * 10 + i128::from(digit));
        Ok(Self(if negative { -magnitude } else { magnitude }))
    }
}

/// An exponent, cut to ±10^6: beyond that no non-zero mantissa of a bounded body fits anyway.
fn parse_exponent(text: &str) -> Result<i64, DecimalError> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DecimalError::NotANumber);
    }
    let magnitude = digits.bytes().fold(0_i64, |sum, b| (sum * 10 + i64::from(b - b'0')).min(10_000_000));
    Ok(if negative { -magnitude } else { magnitude })
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        let unit = UNIT.unsigned_abs();
        let (whole, fraction) = (magnitude / unit, magnitude % unit);
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        let fraction = format!("{fraction:09}");
        write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.0.to_be_bytes();
        // Drop leading bytes that only repeat the sign bit.
        let sign = if self.0 < 0 { 0xff } else { 0x00 };
        let mut start = 0;
        while start < 15 && bytes[start] == sign && (bytes[start + 1] & 0x80) == (sign & 0x80) {
            start += 1;
        }
        serializer.serialize_bytes(&bytes[start..])
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unscaled;
        impl Visitor<'_> for Unscaled {
            type Value = Decimal;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("1 to 16 bytes of a big-endian two's complement number of at most 38 digits")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Decimal, E> {
                let bad = || E::invalid_value(de::Unexpected::Bytes(bytes), &self);
                let first = *bytes.first().ok_or_else(bad)?;
                let start = 16_usize.checked_sub(bytes.len()).ok_or_else(bad)?;
                let mut wide = [if first & 0x80 == 0 { 0x00 } else { 0xff }; 16];
                wide[start..].copy_from_slice(bytes);
                Decimal::from_unscaled(i128::from_be_bytes(wide)).ok_or_else(bad)
            }
        }
        deserializer.deserialize_bytes(Unscaled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_value_not_the_spelling() {
        let nines = "99999999999999999999999999999.999999999";
        for (text, shown) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.000", "0"),
            ("0e999999999999", "0"),
            ("1.50000000000", "1.5"),
            ("15e-1", "1.5"),
            ("0.15E+1", "1.5"),
            ("2500.00", "2500"),
            ("-12.345678901", "-12.345678901"),
            ("1e28", "10000000000000000000000000000"),
            ("0.000000001", "0.000000001"),
            ("00000000000000000000000000000000000000000000000000001", "1"),
            (nines, nines),
        ] {
            assert_eq!(text.parse::<Decimal>().map(|d| d.to_string()), Ok(shown.to_owned()), "{text}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_hold_and_what_is_no_number() {
        use DecimalError::{NotANumber, OutOfRange};
        for (text, error) in [
            ("1e400", OutOfRange),
            ("1e-400", OutOfRange),
            ("1e29", OutOfRange),
            ("0.0000000001", OutOfRange),
            ("1e99999999999999999999", OutOfRange),
            ("", NotANumber),
            ("-", NotANumber),
            (".5", NotANumber),
            ("5.", NotANumber),
            ("1e", NotANumber),
            ("1e+", NotANumber),
            ("NaN", NotANumber),
            ("1,5", NotANumber),
            ("+1", NotANumber),
            ("1 ", NotANumber),
            ("٣", NotANumber),
        ] {
            assert_eq!(text.parse::<Decimal>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn shown_and_read_again_is_the_same(unscaled in -LIMIT..=LIMIT) {
            let number = Decimal(unscaled);
            prop_assert_eq!(number.to_string().parse::<Decimal>(), Ok(number));
        }

        #[test]
        fn an_exponent_moves_the_point(unscaled in -1_000_000_000_i128..1_000_000_000, exponent in -3_i32..20) {
            let plain = Decimal(unscaled * UNIT);
            let text = format!("{unscaled}e{exponent}");
            let expected = if exponent < 0 { plain.0 / 10_i128.pow(exponent.unsigned_abs()) } else { plain.0 * 10_i128.pow(exponent.unsigned_abs()) };
            prop_assert_eq!(text.parse::<Decimal>(), Ok(Decimal(expected)));
        }
    }
}
