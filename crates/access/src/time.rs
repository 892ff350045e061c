//! Times as text, made once a second rather than once a record.

use std::time::Duration;

/// The present second as text in both notations.
#[derive(Debug, Default)]
pub(crate) struct TimeText {
    /// The second the texts below are of; empty texts before the first call.
    second: u64,
    /// `2026-11-29T11:33:21`, without fraction and zone.
    rfc3339: String,
    /// `29/Nov/2026:11:33:21 +0000`.
    common: String,
}

impl TimeText {
    /// Makes the texts those of `time`.
    pub(crate) fn update(&mut self, time: Duration) {
        if self.second == time.as_secs() && !self.rfc3339.is_empty() {
            return;
        }
        self.second = time.as_secs();
        let (year, month, day) = civil(self.second / 86_400);
        let of_day = self.second % 86_400;
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        self.rfc3339 = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        let month = MONTHS[month as usize - 1];
        self.common = format!("{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000");
    }

    pub(crate) fn rfc3339(&self) -> &str {
        &self.rfc3339
    }

    pub(crate) fn common(&self) -> &str {
        &self.common
    }
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Year, month and day of a number of days since 1970-01-01.
///
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`: years begin in March, so
/// that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_date() {
        // From `date -u -d @N`.
        for (unix, rfc3339, common) in [
            (0, "1970-01-01T00:00:00", "01/Jan/1970:00:00:00 +0000"),
            (
                951_782_400,
                "2000-02-29T00:00:00",
                "29/Feb/2000:00:00:00 +0000",
            ),
            (
                1_709_251_199,
                "2024-02-29T23:59:59",
                "29/Feb/2024:23:59:59 +0000",
            ),
            (
                1_795_951_601,
                "2026-11-29T11:26:41",
                "29/Nov/2026:11:26:41 +0000",
            ),
            (
                4_107_542_400,
                "2100-03-01T00:00:00",
                "01/Mar/2100:00:00:00 +0000",
            ),
        ] {
            let mut text = TimeText::default();
            text.update(Duration::from_secs(unix));
            assert_eq!((text.rfc3339(), text.common()), (rfc3339, common));
        }
    }
}
