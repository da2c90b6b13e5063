//! Durations and sizes as people write them: `1m30s`, `64KiB`. Written out in one spelling each.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A duration as `500ms`, `10s`, `1m30s`, `1h`. Whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes as `64KiB` (1024), `10MB` (1000) or a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Why a text is no duration or size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// A number alone: of what?
    #[error("has no unit")]
    NoUnit,
    /// Not of that form.
    #[error("is not of that form")]
    Form,
    /// More than the type holds.
    #[error("is too large")]
    Overflow,
}

const DURATIONS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZES: [(&str, u64); 6] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

// === impl Span ===

impl FromStr for Span {
    type Err = UnitError;

    /// Parts from the largest unit down, each at most once.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let mut rest = text.trim();
        let mut units = DURATIONS.as_slice();
        let mut total = 0_u64;
        if rest.is_empty() {
            return Err(UnitError::Form);
        }
        while !rest.is_empty() {
            let (number, after) = number(rest)?;
            let unit_len = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, next) = after.split_at(unit_len);
            if after.is_empty() {
                return Err(UnitError::NoUnit);
            }
            let at = units.iter().position(|(name, _)| *name == unit).ok_or(UnitError::Form)?;
            let part = units.get(at).and_then(|(_, factor)| number.checked_mul(*factor));
            total = part.and_then(|part| total.checked_add(part)).ok_or(UnitError::Overflow)?;
            units = units.get(at + 1..).unwrap_or_default();
            rest = next;
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in DURATIONS {
            if left >= factor {
                write!(f, "{}{unit}", left / factor)?;
                left %= factor;
            }
        }
        Ok(())
    }
}

// === impl ByteSize ===

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = number(text.trim())?;
        let unit = unit.trim_start();
        if unit.is_empty() || unit.eq_ignore_ascii_case("B") {
            return Ok(Self(number));
        }
        let (_, factor) =
            SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or(UnitError::Form)?;
        number.checked_mul(*factor).map(Self).ok_or(UnitError::Overflow)
    }
}

impl fmt::Display for ByteSize {
    /// In the largest unit that has no remainder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = SIZES.iter().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        match whole {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => self.0.fmt(f),
        }
    }
}

fn number(text: &str) -> Result<(u64, &str), UnitError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    if number.is_empty() {
        return Err(UnitError::Form);
    }
    number.parse().map(|number| (number, rest)).map_err(|_| UnitError::Overflow)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str) -> Result<u128, UnitError> {
        text.parse::<Span>().map(|span| span.0.as_millis())
    }

    fn size(text: &str) -> Result<u64, UnitError> {
        text.parse::<ByteSize>().map(|size| size.0)
    }

    #[test]
    fn durations() {
        let good =
            [("500ms", 500), ("10s", 10_000), ("1m30s", 90_000), ("5m", 300_000), ("1h2m3s4ms", 3_723_004)];
        for (text, millis) in good {
            assert_eq!(span(text), Ok(millis), "{text}");
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("90s".parse::<Span>().unwrap().to_string(), "1m30s");
        assert_eq!(span("10"), Err(UnitError::NoUnit));
        for wrong in ["", "s", "-1s", "1.5s", "1s1m", "1s1s", "1y", "1 s", "١s"] {
            assert_eq!(span(wrong), Err(UnitError::Form), "{wrong}");
        }
        assert_eq!(span("99999999999999999999s"), Err(UnitError::Overflow));
        assert_eq!(span("9999999999999999999h"), Err(UnitError::Overflow));
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("64KiB", 65_536), ("10MB", 10_000_000), ("1MiB", 1_048_576), ("17", 17)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
        assert_eq!(size("10 mb"), Ok(10_000_000));
        assert_eq!(size("0"), Ok(0));
        for wrong in ["", "MB", "1.5MB", "-1", "1TB", "1MBx"] {
            assert_eq!(size(wrong), Err(UnitError::Form), "{wrong}");
        }
        assert_eq!(size("99999999999GiB"), Err(UnitError::Overflow));
    }
}
