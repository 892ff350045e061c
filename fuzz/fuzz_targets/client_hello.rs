#![no_main]

use fathom_wire::client_hello::{Parsed, Peek, parse};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // What arrives byte by byte means what it means at once.
    let mut peek = Peek::default();
    let settled = (0..=bytes.len())
        .map(|end| peek.parse(&bytes[..end]))
        .find(|parsed| !matches!(parsed, Parsed::Incomplete))
        .unwrap_or(Parsed::Incomplete);
    let at_once = parse(bytes);
    if matches!(at_once, Parsed::Complete { .. }) {
        assert_eq!(format!("{settled:?}"), format!("{at_once:?}"));
    }
});
