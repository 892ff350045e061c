//! Escaping: where a client's bytes become part of a line.

/// Appends `value` as the inside of a JSON string (RFC 8259 §7).
///
/// Beyond what JSON demands, C1 controls, DEL and the Unicode line separators are escaped too: a terminal or a
/// line reader that shows the log must not act on them.
pub(super) fn json(out: &mut Vec<u8>, value: &[u8]) {
    if all_plain(value) {
        out.extend_from_slice(value);
    } else {
        json_slow(out, value);
    }
}

/// Without a way out of the loop, the compiler looks at many bytes at a time.
fn all_plain(value: &[u8]) -> bool {
    value.iter().fold(true, |plain, &b| plain & is_plain(b))
}

#[cold]
fn json_slow(out: &mut Vec<u8>, value: &[u8]) {
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                    let code = c as u32; // controls and separators lie below U+10000: one unit
                    out.extend_from_slice(b"\\u");
                    for shift in [12, 8, 4, 0] {
                        out.push(HEX[(code >> shift & 0xf) as usize]);
                    }
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for &byte in chunk.invalid() {
            out.extend_from_slice(&[
                b'\\',
                b'\\',
                b'x',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 0xf)],
            ]);
        }
    }
}

/// Appends `value` as nginx and Apache do: everything but printable ASCII, and `"` and `\`, becomes `\xHH`.
/// An empty value is `-`.
pub(super) fn combined(out: &mut Vec<u8>, value: &[u8]) {
    if value.is_empty() {
        out.push(b'-');
    }
    if all_plain(value) {
        return out.extend_from_slice(value);
    }
    for &byte in value {
        if is_plain(byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[
                b'\\',
                b'x',
                HEX_UPPER[usize::from(byte >> 4)],
                HEX_UPPER[usize::from(byte & 0xf)],
            ]);
        }
    }
}

/// Printable ASCII that needs no escape inside double quotes.
pub(super) fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e) & (byte != b'"') & (byte != b'\\')
}

const HEX: &[u8; 16] = b"0123456789abcdef";
const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";
