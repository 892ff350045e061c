#![no_main]

use fathom_wire::proxy::{Parsed, parse};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // What is complete is complete with nothing but its own bytes.
    if let Parsed::Complete { len, .. } = parse(bytes) {
        assert!(matches!(parse(&bytes[..len]), Parsed::Complete { len: again, .. } if again == len));
    }
});
