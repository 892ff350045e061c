#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // The first byte says where the rest is cut in two: what comes in pieces means what it means whole.
    if let Some((cut, bytes)) = input.split_first() {
        fathom_codec::h1::fuzz_request(bytes, usize::from(*cut));
    }
});
