//! The files a configuration was read from, and places in them.

use std::ops::Range;
use std::sync::Arc;

use fathom_core::plan::Origin;

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// As the user gave it, or as `include` matched it.
    pub(crate) name: Arc<str>,
    pub(crate) text: Arc<str>,
}

/// Every file, by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources(Vec<Source>);

/// A place in a file: byte offsets into its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) file: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn new(file: u32, range: Range<usize>) -> Self {
        Self {
            file,
            start: range.start as u32,
            end: range.end as u32,
        }
    }

    pub(crate) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl Sources {
    pub(crate) fn add(&mut self, name: &str, text: String) -> u32 {
        self.0.push(Source {
            name: name.into(),
            text: text.into(),
        });
        (self.0.len() - 1) as u32
    }

    pub(crate) fn file(&self, file: u32) -> &Source {
        &self.0[file as usize]
    }

    /// Line and column, both from 1; the column counts characters.
    pub(crate) fn position(&self, span: Span) -> (u32, u32) {
        let text = &self.file(span.file).text;
        let before = &text.as_bytes()[..(span.start as usize).min(text.len())];
        let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
        let start = before
            .iter()
            .rposition(|&b| b == b'\n')
            .map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
        (line as u32, column as u32)
    }

    pub(crate) fn origin(&self, span: Span) -> Origin {
        Origin {
            file: self.file(span.file).name.clone(),
            line: self.position(span).0,
        }
    }
}
