//! The `Date` of responses that Fathom makes itself (RFC 9110 §5.6.7), formatted once a second.

use std::cell::RefCell;

thread_local! {
    static CURRENT: RefCell<(u64, [u8; 29])> = const { RefCell::new((u64::MAX, [0; 29])) };
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` for these seconds since the Unix epoch.
pub(crate) fn http_date(unix: u64) -> [u8; 29] {
    CURRENT.with_borrow_mut(|(at, text)| {
        if *at != unix {
            *text = format(unix);
            *at = unix;
        }
        *text
    })
}

fn format(unix: u64) -> [u8; 29] {
    const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let days = unix / 86_400;
    let (year, month, day) = civil(days);
    let mut text = *b"Thu, 00 Jan 0000 00:00:00 GMT";
    text[..3].copy_from_slice(DAYS[(days % 7) as usize]);
    put(&mut text[5..7], day);
    text[8..11].copy_from_slice(&MONTHS[(month as usize - 1) * 3..][..3]);
    put(&mut text[12..14], year / 100 % 100);
    put(&mut text[14..16], year % 100);
    put(&mut text[17..19], unix / 3600 % 24);
    put(&mut text[20..22], unix / 60 % 60);
    put(&mut text[23..25], unix % 60);
    text
}

fn put(two: &mut [u8], n: u64) {
    two[0] = b'0' + (n / 10) as u8;
    two[1] = b'0' + (n % 10) as u8;
}

/// Days since the epoch as year, month, day: Howard Hinnant, "chrono-compatible low-level date algorithms".
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (
        yoe + era * 400 + u64::from(month <= 2),
        month,
        doy - (153 * mp + 2) / 5 + 1,
    )
}

#[cfg(test)]
mod tests {
    use super::http_date;

    #[test]
    fn dates() {
        for (unix, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&http_date(unix)).unwrap(), text);
        }
    }
}
