//! Prints `bpf/fathom.h`.
fn main() {
    print!("{}", fathom_wire::packet::c_header());
}
