//! The text format: families, samples, escaping.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use std::fmt::{Display, Write};

use fathom_core::Reason;
use fathom_core::stats::{GrpcStatuses, PerCore, ReasonCounts, Snapshot, StatusClasses};

/// Labels of a sample.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

#[derive(Default)]
pub(super) struct Text {
    out: String,
}

impl Text {
    pub(super) fn finish(self) -> String {
        self.out
    }

    /// Begins a counter; its name ends in `_total`.
    pub(super) fn counter<'t>(&'t mut self, name: &'t str, help: &str) -> Family<'t> {
        self.family(name, "counter", help)
    }

    pub(super) fn gauge<'t>(&'t mut self, name: &'t str, help: &str) -> Family<'t> {
        self.family(name, "gauge", help)
    }

    pub(super) fn histogram<'t>(&'t mut self, name: &'t str, help: &str) -> Family<'t> {
        self.family(name, "histogram", help)
    }

    fn family<'t>(&'t mut self, name: &'t str, kind: &'static str, help: &str) -> Family<'t> {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(
            self.out,
            "# HELP fathom_{name} {help}\n# TYPE fathom_{name} {kind}"
        ); // a String takes all
        Family {
            out: &mut self.out,
            name,
        }
    }
}

/// A family whose samples are being written.
pub(super) struct Family<'t> {
    out: &'t mut String,
    name: &'t str,
}

impl Family<'_> {
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.line("", labels, None, value);
    }

    /// One sample for each reason that occurred.
    pub(super) fn reasons<T: Default>(
        &mut self,
        labels: Labels<'_>,
        stats: &PerCore<T>,
        of: impl Fn(&T) -> &ReasonCounts,
    ) {
        for reason in Reason::ALL {
            let count = stats.sum(|cells| of(cells).of(*reason));
            if count > 0 {
                self.line("", labels, Some(("reason", reason.as_str())), count);
            }
        }
    }

    /// One sample for each class of status.
    pub(super) fn classes<T: Default>(
        &mut self,
        labels: Labels<'_>,
        stats: &PerCore<T>,
        of: impl Fn(&T) -> &StatusClasses,
    ) {
        for (class, name) in [(1, "1xx"), (2, "2xx"), (3, "3xx"), (4, "4xx"), (5, "5xx")] {
            self.line(
                "",
                labels,
                Some(("class", name)),
                stats.sum(|cells| of(cells).class(class)),
            );
        }
    }

    /// One sample for each gRPC status that occurred.
    pub(super) fn grpc<T: Default>(
        &mut self,
        labels: Labels<'_>,
        stats: &PerCore<T>,
        of: impl Fn(&T) -> &GrpcStatuses,
    ) {
        for (status, name) in GrpcStatuses::NAMES.iter().enumerate() {
            let count = stats.sum(|cells| of(cells).of(status));
            if count > 0 {
                self.line("", labels, Some(("status", name)), count);
            }
        }
    }

    pub(super) fn buckets(&mut self, labels: Labels<'_>, snapshot: &Snapshot) {
        for (bound, below) in snapshot.cumulative() {
            let bound = if bound.is_finite() {
                bound.to_string()
            } else {
                "+Inf".to_owned()
            };
            self.line("_bucket", labels, Some(("le", &bound)), below);
        }
        self.line("_sum", labels, None, snapshot.sum_seconds());
        self.line("_count", labels, None, snapshot.count());
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: Labels<'_>,
        more: Option<(&str, &str)>,
        value: impl Display,
    ) {
        self.out.extend(["fathom_", self.name, suffix]);
        let mut open = '{';
        for (name, value) in labels.iter().copied().chain(more) {
            self.out.push(open);
            open = ',';
            self.out.extend([name, "=\""]);
            for c in value.chars() {
                match c {
                    '\\' => self.out.push_str("\\\\"),
                    '"' => self.out.push_str("\\\""),
                    '\n' => self.out.push_str("\\n"),
                    c => self.out.push(c),
                }
            }
            self.out.push('"');
        }
        if open == ',' {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}"); // a String takes all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_labels_are_escaped() {
        let mut text = Text::default();
        let mut family = text.gauge("x", "Help with \\ and\nline.");
        family.sample(&[], 1);
        family.sample(&[("a", "q\"b\\s\nn"), ("b", "")], 0.5);
        assert_eq!(
            text.finish(),
            "# HELP fathom_x Help with \\\\ and\\nline.\n# TYPE fathom_x gauge\nfathom_x 1\n\
             fathom_x{a=\"q\\\"b\\\\s\\nn\",b=\"\"} 0.5\n"
        );
    }
}
