//! Loads a built object: `cargo run -p fathom-packet --example verify_object -- bpf/fathom.bpf.o`.

use fathom_packet::{Sizes, trial::Trial};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: verify_object FILE")?;
    Trial::new(Some(&std::fs::read(path)?), Sizes::small(), false)?;
    Ok(())
}
