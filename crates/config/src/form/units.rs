//! Durations, sizes, shares, rates.

use std::time::Duration;

use fathom_core::plan::Rate;

use super::Wrong;

const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// `250ms`, `5s`, `1m30s`, `1.5h`.
pub(crate) fn duration(text: &str) -> Result<Duration, Wrong> {
    let wrong = |why: &str| {
        Wrong::help(
            format!("`{text}` is not a duration{why}"),
            "such as \"250ms\", \"5s\" or \"1m30s\"",
        )
    };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let number: f64 = number.parse().map_err(|_| wrong(""))?;
        let seconds = match unit {
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "" => return Err(wrong(": it lacks a unit")),
            other => return Err(wrong(&format!(": `{other}` is none of us, ms, s, m, h, d"))),
        };
        let part =
            Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong(": it is too long"))?;
        // Binary fractions must not make 1.1s anything else.
        let part = Duration::from_micros(
            u64::try_from((part.as_nanos() + 500) / 1000).unwrap_or(u64::MAX),
        );
        total = total
            .checked_add(part)
            .filter(|d| *d <= LONGEST)
            .ok_or_else(|| wrong(": it is too long"))?;
        rest = tail;
    }
    match text.is_empty() {
        true => Err(wrong("")),
        false => Ok(total),
    }
}

/// One that waits for something.
pub(crate) fn duration_not_zero(text: &str) -> Result<Duration, Wrong> {
    match duration(text)? {
        Duration::ZERO => Err(Wrong::new("it must be longer than nothing")),
        d => Ok(d),
    }
}

/// `64KiB`, `10MiB`, `1GB`, `512B`; a number alone is bytes.
pub(crate) fn size(text: &str) -> Result<u64, Wrong> {
    let wrong = |why: &str| {
        Wrong::help(
            format!("`{text}` is not a size{why}"),
            "such as \"64KiB\", \"10MiB\" or \"1GB\"",
        )
    };
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong(""))?;
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1000_u64.pow(2),
        "GB" => 1000_u64.pow(3),
        "TB" => 1000_u64.pow(4),
        "KiB" => 1024,
        "MiB" => 1024_u64.pow(2),
        "GiB" => 1024_u64.pow(3),
        "TiB" => 1024_u64.pow(4),
        other => {
            return Err(wrong(&format!(
                ": `{other}` is none of B, KB, KiB, MB, MiB, GB, GiB, TB, TiB"
            )));
        }
    };
    number
        .checked_mul(factor)
        .ok_or_else(|| wrong(": it is too large"))
}

fn percent(text: &str) -> Result<f64, Wrong> {
    let wrong = || Wrong::help(format!("`{text}` is not a percentage"), "such as \"20%\"");
    let number = text.strip_suffix('%').ok_or_else(wrong)?;
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(wrong());
    }
    Ok(number.parse::<f64>().map_err(|_| wrong())? / 100.0)
}

/// `20%`: 0 to 1.
pub(crate) fn share(text: &str) -> Result<f64, Wrong> {
    match percent(text)? {
        share if share <= 1.0 => Ok(share),
        _ => Err(Wrong::new(format!("`{text}` is more than the whole"))),
    }
}

/// `125%`: 1 to 100.
pub(crate) fn load_bound(text: &str) -> Result<f64, Wrong> {
    match percent(text)? {
        bound if (1.0..=100.0).contains(&bound) => Ok(bound),
        _ => Err(Wrong::new(format!(
            "`{text}` is not between 100% (everyone has the mean load) and 10000%"
        ))),
    }
}

/// `100/s`, `6000/m`, `10/h`.
pub(crate) fn rate(text: &str) -> Result<Rate, Wrong> {
    let wrong = || {
        Wrong::help(
            format!("`{text}` is not a rate"),
            "such as \"100/s\", \"6000/m\" or \"10/h\"",
        )
    };
    let (count, per) = text.split_once('/').ok_or_else(wrong)?;
    let per = match per.trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    match count.trim().parse().map_err(|_| wrong())? {
        0 => Err(Wrong::new("a rate of nothing lets nobody in")),
        count => Ok(Rate {
            count,
            per: Duration::from_secs(per),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("1m30s", 90_000),
            ("1.5s", 1_500),
            ("1.1s", 1_100),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "5x",
            "-1s",
            "1e9s",
            "..s",
            "99999999999999d",
            "5seconds",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(duration_not_zero("0ms").is_err());
    }

    #[test]
    fn sizes_shares_rates() {
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1GB"), Ok(1_000_000_000));
        assert_eq!(size("10 MiB"), Ok(10 << 20));
        assert_eq!(size("7"), Ok(7));
        assert!(size("99999999999TiB").is_err() && size("KiB").is_err() && size("1kib").is_err());
        assert_eq!(share("20%"), Ok(0.2));
        assert!(
            share("101%").is_err()
                && share("0.2").is_err()
                && share("nan%").is_err()
                && share("%").is_err()
        );
        assert_eq!(load_bound("125%"), Ok(1.25));
        assert!(load_bound("99%").is_err());
        assert_eq!(
            rate("6000/m"),
            Ok(Rate {
                count: 6000,
                per: Duration::from_secs(60)
            })
        );
        assert!(rate("0/s").is_err() && rate("5").is_err() && rate("5/d").is_err());
    }
}
