//! What the fuzz targets call, and the property tests with them: parsing in one piece and in any pieces must agree.

use super::{BodyDecoder, Limits, Malformed, Progress};
use crate::head::{Body, RequestHead, ResponseHead};

/// Small limits, so that short inputs reach them.
const LIMITS: Limits = Limits {
    head: 4096,
    uri: 512,
    fields: 32,
};

fn pieces<T>(
    bytes: &[u8],
    cut: usize,
    mut step: impl FnMut(&[u8]) -> Result<Option<T>, Malformed>,
) -> Result<Option<T>, Malformed> {
    let cut = cut.max(1);
    let mut upto = 0;
    while upto < bytes.len() {
        upto = (upto + cut).min(bytes.len());
        if let Some(done) = step(&bytes[..upto])? {
            return Ok(Some(done));
        }
    }
    Ok(None)
}

/// Parses a request head whole and in pieces of `cut` bytes.
///
/// # Panics
/// If the two disagree.
pub fn fuzz_request(bytes: &[u8], cut: usize) {
    let run = |cut| {
        let mut head = RequestHead::default();
        let result = pieces(bytes, cut, |b| {
            Ok(match head.parse(b, &LIMITS)? {
                Progress::Complete(n) => Some(n),
                Progress::Partial => None,
            })
        });
        let view = head.view(bytes);
        let fields: Vec<_> = view
            .fields()
            .map(|f| (f.name.to_vec(), f.value.to_vec(), f.id))
            .collect();
        (
            result,
            view.target().to_vec(),
            view.host().to_vec(),
            head.body(),
            fields,
        )
    };
    let (whole, parts) = (run(bytes.len()), run(cut));
    // A limit may be met at another byte when less is there at a time; whether there is an error may not differ.
    match (&whole.0, &parts.0) {
        (Err(_), Err(_)) => {}
        _ => assert_eq!(whole, parts),
    }
}

/// Parses a response head whole and in pieces of `cut` bytes.
///
/// # Panics
/// If the two disagree.
pub fn fuzz_response(bytes: &[u8], cut: usize) {
    let run = |cut| {
        let mut head = ResponseHead::default();
        let result = pieces(bytes, cut, |b| {
            Ok(match head.parse(b, &LIMITS)? {
                Progress::Complete(n) => Some(n),
                Progress::Partial => None,
            })
        });
        let fields: Vec<_> = head
            .view(bytes)
            .fields()
            .map(|f| (f.name.to_vec(), f.value.to_vec()))
            .collect();
        (
            result,
            head.status(),
            head.body(crate::head::Method::Get),
            fields,
        )
    };
    let (whole, parts) = (run(bytes.len()), run(cut));
    match (&whole.0, &parts.0) {
        (Err(_), Err(_)) => {}
        _ => assert_eq!(whole, parts),
    }
}

/// Decodes a chunked body whole and in pieces of `cut` bytes; gives the content if it is whole.
///
/// # Errors
/// The coding is broken.
///
/// # Panics
/// If the two disagree.
pub fn fuzz_chunked(bytes: &[u8], cut: usize) -> Result<Option<Vec<u8>>, Malformed> {
    let run = |cut: usize| {
        let mut decoder = BodyDecoder::new(Body::Chunked);
        let mut content = Vec::new();
        let mut consumed = 0;
        for piece in bytes.chunks(cut.max(1)) {
            let mut rest = piece;
            while !rest.is_empty() {
                let step = decoder.step(rest)?;
                content.extend_from_slice(&rest[step.skip..step.skip + step.data]);
                consumed += step.skip + step.data;
                if step.done {
                    return Ok((Some(content), consumed, decoder.trailers().to_vec()));
                }
                rest = &rest[step.skip + step.data..];
            }
        }
        Ok::<_, Malformed>((None, consumed, Vec::new()))
    };
    let whole = run(bytes.len());
    assert_eq!(whole, run(cut));
    whole.map(|(content, _, _)| content)
}
