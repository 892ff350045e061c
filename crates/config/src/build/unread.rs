//! The net under all builders: a key that nothing read has no effect, and that is never passed over in silence.

use crate::diagnostic::Diagnostic;
use crate::tree::{Node, Table, Value};

/// Only when nothing else is wrong, since a builder stops early at what is.
pub(crate) fn check(root: &Table, out: &mut Vec<Diagnostic>) {
    for entry in root.entries.iter().filter(|e| e.key != "include") {
        match entry.read.get() {
            true => walk(&entry.node, out),
            false => {
                let message = format!("`{}` has no effect here", entry.key);
                out.push(Diagnostic::new(entry.span, "no-effect", message));
            }
        }
    }
}

fn walk(node: &Node, out: &mut Vec<Diagnostic>) {
    match &node.value {
        Value::Table(table) => check(table, out),
        Value::List(list) => list.iter().for_each(|item| walk(item, out)),
        _ => {}
    }
}
