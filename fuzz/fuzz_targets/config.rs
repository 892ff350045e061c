#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match fathom_config::load_str_with("fuzz.toml", text, &|_| None) {
        Ok(loaded) => assert!(fathom_config::diff(&loaded.plan, &loaded.plan).is_empty()),
        Err(errors) => drop(errors.render(false)),
    }
});
