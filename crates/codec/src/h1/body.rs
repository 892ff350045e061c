//! A message's content as it arrives, however it is delimited.

use super::{ChunkDecoder, Malformed};
use crate::head::Body;

/// What the next bytes are: `skip` bytes of framing, then `data` bytes of content. Unless it is done, the decoder
/// wants to be asked again with what follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Framing, to be dropped.
    pub skip: usize,
    /// Content behind it.
    pub data: usize,
    /// The content ends there.
    pub done: bool,
}

/// Finds a message's content in a connection's bytes.
#[derive(Clone, Debug, Default)]
pub enum BodyDecoder {
    /// Nothing (more) belongs to it.
    #[default]
    Done,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Box<ChunkDecoder>),
    /// All there is until the peer closes.
    UntilClose,
}

impl BodyDecoder {
    /// For a body delimited so.
    #[must_use]
    pub fn new(body: Body) -> Self {
        match body {
            Body::None => Self::Done,
            Body::Length(n) => Self::Length(n),
            Body::Chunked => Self::Chunked(Box::default()),
            Body::UntilClose => Self::UntilClose,
        }
    }

    /// What the next bytes are.
    ///
    /// # Errors
    /// The chunked coding is broken.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, Malformed> {
        match self {
            Self::Done => Ok(Step {
                skip: 0,
                data: 0,
                done: true,
            }),
            Self::Length(left) => {
                let data = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(input.len());
                *left -= data as u64;
                Ok(Step {
                    skip: 0,
                    data,
                    done: *left == 0,
                })
            }
            Self::Chunked(decoder) => decoder.step(input),
            Self::UntilClose => Ok(Step {
                skip: 0,
                data: input.len(),
                done: false,
            }),
        }
    }

    /// The peer has closed: whether the content is whole.
    #[must_use]
    pub fn whole_at_close(&self) -> bool {
        // RFC 9112 §8: with a length or chunks, fewer bytes than announced make the message incomplete.
        matches!(self, Self::Done | Self::UntilClose)
    }

    /// The lines of the trailer section, each with its CRLF.
    #[must_use]
    pub fn trailers(&self) -> &[u8] {
        match self {
            Self::Chunked(decoder) => decoder.trailers_received(),
            _ => &[],
        }
    }
}
