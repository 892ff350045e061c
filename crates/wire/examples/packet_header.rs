//! Prints `bpf/fathom.h`.
#![allow(clippy::print_stdout, reason = "what it is for")]
fn main() {
    print!("{}", fathom_wire::packet::c_header());
}
