//! Durations as Go writes them: `300ms`, `1.5h`, `2h45m`.
//!
//! A signed fraction with a unit, any number of times; the units are ns, us (µs), ms, s, m and h. A bare
//! number is only a duration when it is 0.

use std::time::Duration;

const NANOS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Parses a duration. A negative one is refused: no setting of etcd's means anything with it.
pub fn parse(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    // One sign: a row of them is no duration, and no reason to recurse.
    let is_negative = text.starts_with('-');
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    if unsigned.is_empty() {
        return Err(invalid());
    }
    let mut rest = unsigned;
    let mut total_nanos: u128 = 0;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number_len);
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        if number.is_empty() || number == "." {
            return Err(invalid());
        }
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let (_, unit_nanos) = NANOS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| format!("time: unknown unit {unit:?} in duration {text:?}"))?;
        let part = scaled(number, *unit_nanos).ok_or_else(invalid)?;
        total_nanos = total_nanos.checked_add(part).ok_or_else(invalid)?;
        rest = tail;
    }
    // Go counts in signed 64-bit nanoseconds, about 292 years.
    match i64::try_from(total_nanos) {
        Ok(nanos) if is_negative && nanos > 0 => Err(format!("the duration {text:?} is negative")),
        Ok(nanos) => Ok(Duration::from_nanos(nanos.unsigned_abs())),
        Err(_) => Err(invalid()),
    }
}

/// `number` (decimal digits with at most one point) times `unit_nanos`, rounded down.
fn scaled(number: &str, unit_nanos: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let mut nanos = u128::from(whole).checked_mul(unit_nanos)?;
    let mut place_nanos = unit_nanos;
    for digit in fraction.bytes() {
        place_nanos /= 10;
        nanos += u128::from(digit - b'0') * place_nanos;
    }
    Some(nanos)
}

/// Writes a duration as Go does: `2h0m0s`, `1.5s`, `100ms`, `0s`.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    for (limit, unit_nanos, unit) in
        [(1_000, 1, "ns"), (1_000_000, 1_000, "µs"), (1_000_000_000, 1_000_000, "ms")]
    {
        if nanos < limit {
            return format!("{}{unit}", with_fraction(nanos, unit_nanos));
        }
    }
    let minute = 60_000_000_000;
    let seconds = with_fraction(nanos % minute, 1_000_000_000);
    match (nanos / (60 * minute), nanos / minute % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// `nanos` in units of `unit_nanos` with as many decimals as needed.
fn with_fraction(nanos: u128, unit_nanos: u128) -> String {
    let fraction = nanos % unit_nanos;
    if fraction == 0 {
        return (nanos / unit_nanos).to_string();
    }
    let width = unit_nanos.ilog10() as usize;
    let decimals = format!("{fraction:0width$}");
    format!("{}.{}", nanos / unit_nanos, decimals.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("-0s", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("1h0m", 3_600_000_000_000),
            ("1h30m0.5s", 5_400_500_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("300ms", 300_000_000),
            ("2us3µs4μs5ns", 9_005),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for (text, reason) in [
            ("", "time: invalid duration \"\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5x", "time: unknown unit \"x\" in duration \"5x\""),
            ("s", "time: invalid duration \"s\""),
            (".s", "time: invalid duration \".s\""),
            ("1.2.3s", "time: invalid duration \"1.2.3s\""),
            ("9999999h", "time: invalid duration \"9999999h\""),
            ("-5s", "the duration \"-5s\" is negative"),
            ("--5s", "time: invalid duration \"--5s\""),
            ("--0", "time: invalid duration \"--0\""),
            ("+-5s", "time: invalid duration \"+-5s\""),
            ("5 s", "time: unknown unit \" s\" in duration \"5 s\""),
        ] {
            assert_eq!(parse(text), Err(reason.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_row_of_signs_is_refused_like_one_too_many() {
        assert!(parse(&"-".repeat(1 << 20)).is_err());
    }

    #[test]
    fn writes_as_go_does() {
        for (nanos, text) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (100_000_000, "100ms"),
            (5_000_000_000, "5s"),
            (1_050_000_000, "1.05s"),
            (600_000_000_000, "10m0s"),
            (7_200_000_000_000, "2h0m0s"),
        ] {
            assert_eq!(format(Duration::from_nanos(nanos)), text);
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)));
        }
    }
}
