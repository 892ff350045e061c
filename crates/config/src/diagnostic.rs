//! What is wrong with a configuration, shown the way a compiler would, or as JSON.

use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Patch, Renderer, Snippet};

use crate::source::{Sources, Span};

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub(crate) struct Diagnostic {
    /// Where; `None` for what is in no file (a file that cannot be read).
    pub(crate) span: Option<Span>,
    /// Kebab-case, stable.
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// At the caret.
    pub(crate) label: Option<String>,
    /// Other places that belong to it.
    pub(crate) related: Vec<(Span, String)>,
    pub(crate) help: Option<String>,
    /// What to write instead.
    pub(crate) replacement: Option<(Span, String)>,
}

impl Diagnostic {
    pub(crate) fn new(
        span: impl Into<Option<Span>>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            span: span.into(),
            code,
            message: message.into(),
            label: None,
            related: Vec::new(),
            help: None,
            replacement: None,
        }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(crate) fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// `did you mean`, with the line as it would be.
    pub(crate) fn did_you_mean(mut self, span: Span, word: Option<&str>, quoted: bool) -> Self {
        if let Some(word) = word {
            self.help = Some(format!("did you mean `{word}`?"));
            self.replacement = Some((
                span,
                if quoted {
                    format!("{word:?}")
                } else {
                    word.to_owned()
                },
            ));
        }
        self
    }
}

/// A list of diagnostics with the files they are about; sorted by file and line.
#[derive(Clone, Default)]
pub struct Report {
    sources: Sources,
    list: Vec<Diagnostic>,
    warning: bool,
}

/// Why a configuration was refused: every reason there is.
pub type Errors = Report;

/// Things that are valid and probably not meant.
pub type Warnings = Report;

/// One diagnostic as plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file's name.
    pub file: Option<String>,
    /// From 1.
    pub line: Option<u32>,
    /// In characters, from 1.
    pub column: Option<u32>,
    /// Kebab-case, stable.
    pub code: &'static str,
    /// The fact.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Report {
    pub(crate) fn new(sources: Sources, mut list: Vec<Diagnostic>, warning: bool) -> Self {
        list.sort_by_key(|d| d.span.map(|s| (s.file, s.start)));
        list.dedup_by(|a, b| a.span == b.span && a.message == b.message);
        Self {
            sources,
            list,
            warning,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Each as plain data.
    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        self.list.iter().map(|d| {
            let position = d.span.map(|s| self.sources.position(s));
            Problem {
                file: d.span.map(|s| self.sources.file(s.file).name.to_string()),
                line: position.map(|p| p.0),
                column: position.map(|p| p.1),
                code: d.code,
                message: d.message.clone(),
                help: d.help.clone(),
            }
        })
    }

    /// `[{"file", "line", "column", "code", "message", "help"}]`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let list = self.problems().map(|p| {
            serde_json::json!({
                "file": p.file, "line": p.line, "column": p.column,
                "code": p.code, "message": p.message, "help": p.help,
            })
        });
        list.collect()
    }

    /// For people: file, line, column, the line itself, a caret, and what to do.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut out = String::new();
        for diagnostic in &self.list {
            out.push_str(&renderer.render(&self.groups(diagnostic)));
            out.push_str("\n\n");
        }
        out.push_str(&self.summary());
        out.push('\n');
        out
    }

    fn summary(&self) -> String {
        let what = if self.warning { "warning" } else { "error" };
        match self.list.len() {
            1 => format!("1 {what}"),
            n => format!("{n} {what}s"),
        }
    }

    fn groups<'a>(&'a self, d: &'a Diagnostic) -> Vec<Group<'a>> {
        let level = if self.warning {
            Level::WARNING
        } else {
            Level::ERROR
        };
        let title = level.primary_title(d.message.as_str()).id(d.code);
        let Some(span) = d.span else {
            let group = Group::with_title(title);
            return vec![match &d.help {
                Some(help) => group.element(Level::HELP.message(help.as_str())),
                None => group,
            }];
        };
        // One snippet for each file that has a part in it, the file of the error first.
        let mut files = vec![span.file];
        files.extend(
            d.related
                .iter()
                .map(|(s, _)| s.file)
                .filter(|f| *f != span.file),
        );
        files.dedup();
        let mut main = Group::with_title(title);
        for file in files {
            let source = self.sources.file(file);
            let mut snippet = Snippet::source(&*source.text).path(&*source.name);
            if file == span.file {
                let primary = AnnotationKind::Primary.span(self.visible(span));
                snippet = snippet.annotation(match &d.label {
                    Some(label) => primary.label(label.as_str()),
                    None => primary,
                });
            }
            for (other, label) in d.related.iter().filter(|(s, _)| s.file == file) {
                snippet = snippet.annotation(
                    AnnotationKind::Context
                        .span(self.visible(*other))
                        .label(label.as_str()),
                );
            }
            main = main.element(snippet);
        }
        match (&d.help, &d.replacement) {
            (Some(help), Some((at, new))) => {
                let source = self.sources.file(at.file);
                let patch = Snippet::source(&*source.text)
                    .path(&*source.name)
                    .patch(Patch::new(at.range(), new.as_str()));
                vec![
                    main,
                    Level::HELP.secondary_title(help.as_str()).element(patch),
                ]
            }
            (Some(help), None) => vec![main.element(Level::HELP.message(help.as_str()))],
            (None, _) => vec![main],
        }
    }

    /// A span of many lines is shown by its first.
    fn visible(&self, span: Span) -> std::ops::Range<usize> {
        let text = &self.sources.file(span.file).text;
        let start = (span.start as usize).min(text.len());
        let end = (span.end as usize).clamp(start, text.len());
        let first_line = text
            .get(start..end)
            .and_then(|t| t.find('\n'))
            .map_or(end, |at| start + at);
        start..first_line
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}
