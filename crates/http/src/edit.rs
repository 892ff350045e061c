//! Header edits of a route, made ready: what to leave out while copying, what to write behind.

use fathom_codec::head::{Field, Name};
use fathom_core::plan::HeaderEdits;

/// Made from [`HeaderEdits`]. Framing and connection fields are the codec's own and are not touched by it.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    /// Names of fields that are not copied: removed, or set anew.
    drop: Vec<String>,
    /// Fields written behind the copied ones.
    put: Vec<(String, String)>,
    /// What `set` makes of `Host`.
    host: Option<String>,
}

impl Edits {
    pub(crate) fn new(plan: &HeaderEdits) -> Self {
        let free = |name: &str| {
            let id = Name::of(name.as_bytes());
            !id.is_hop_by_hop() && id != Name::ContentLength
        };
        let is_host = |name: &str| name.eq_ignore_ascii_case("host");
        let removed = plan.remove.iter().filter(|n| free(n) && !is_host(n));
        let set = plan.set.iter().filter(|(n, _)| free(n) && !is_host(n));
        let added = plan.add.iter().filter(|(n, _)| free(n) && !is_host(n));
        Self {
            drop: removed
                .chain(set.clone().map(|(n, _)| n))
                .cloned()
                .collect(),
            put: set.chain(added).cloned().collect(),
            host: plan
                .set
                .iter()
                .find(|(n, _)| is_host(n))
                .map(|(_, v)| v.clone()),
        }
    }

    /// Whether this field is left out.
    pub(crate) fn drops(&self, field: &Field<'_>) -> bool {
        self.drop
            .iter()
            .any(|n| n.len() == field.name.len() && field.name.eq_ignore_ascii_case(n.as_bytes()))
    }

    /// What `Host` is to say.
    pub(crate) fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Fields to write.
    pub(crate) fn put(&self) -> &[(String, String)] {
        &self.put
    }
}
