//! A byte trie over path patterns: one walk finds the exact pattern and every prefix of a path.

use smallvec::SmallVec;

/// Routes that share one path pattern, the more specific first.
pub(crate) type Candidates = Vec<u32>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Trie {
    root: Node,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// What the path must go on with to be here, from the parent.
    label: Box<[u8]>,
    /// First bytes of the children's labels, in the order of `children`.
    heads: Vec<u8>,
    children: Vec<Node>,
    exact: Candidates,
    prefix: Candidates,
}

/// What a path found.
#[derive(Debug, Default)]
pub(crate) struct Found<'t> {
    pub(crate) exact: Option<&'t Candidates>,
    /// Shortest first.
    pub(crate) prefixes: SmallVec<[&'t Candidates; 8]>,
}

impl Trie {
    pub(crate) fn exact_mut(&mut self, pattern: &[u8]) -> &mut Candidates {
        &mut self.root.descend(pattern).exact
    }

    pub(crate) fn prefix_mut(&mut self, pattern: &[u8]) -> &mut Candidates {
        &mut self.root.descend(pattern).prefix
    }

    pub(crate) fn find(&self, path: &[u8]) -> Found<'_> {
        let mut found = Found::default();
        let mut node = &self.root;
        let mut rest = path;
        loop {
            if !node.prefix.is_empty() {
                found.prefixes.push(&node.prefix);
            }
            let Some(&head) = rest.first() else {
                found.exact = Some(&node.exact).filter(|c| !c.is_empty());
                return found;
            };
            let Some(child) = memchr::memchr(head, &node.heads).map(|i| &node.children[i]) else {
                return found;
            };
            let Some(tail) = rest.strip_prefix(&*child.label) else {
                return found;
            };
            node = child;
            rest = tail;
        }
    }

    pub(crate) fn for_each(&mut self, f: &mut impl FnMut(&mut Candidates)) {
        self.root.for_each(f);
    }
}

impl Node {
    /// The node that stands for exactly `key`, made on the way.
    fn descend(&mut self, key: &[u8]) -> &mut Node {
        let Some(&head) = key.first() else {
            return self;
        };
        let Some(at) = self.heads.iter().position(|&h| h == head) else {
            self.heads.push(head);
            self.children.push(Node {
                label: key.into(),
                ..Node::default()
            });
            return self.children.last_mut().expect("just pushed");
        };
        let child = &mut self.children[at];
        let shared = child
            .label
            .iter()
            .zip(key)
            .take_while(|(a, b)| a == b)
            .count();
        if shared < child.label.len() {
            let lower = std::mem::take(child);
            let upper = Node {
                label: lower.label[..shared].into(),
                ..Node::default()
            };
            *child = upper;
            child.heads.push(lower.label[shared]);
            child.children.push(Node {
                label: lower.label[shared..].into(),
                ..lower
            });
        }
        child.descend(&key[shared..])
    }

    fn for_each(&mut self, f: &mut impl FnMut(&mut Candidates)) {
        f(&mut self.exact);
        f(&mut self.prefix);
        self.children.iter_mut().for_each(|c| c.for_each(f));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed};

    proptest! {
        #![proptest_config(Config { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() })]

        #[test]
        fn finds_what_a_list_would(
            keys in prop::collection::vec("[ab/]{0,6}", 0..12),
            path in "[ab/]{0,8}",
        ) {
            let mut trie = Trie::default();
            for (i, key) in keys.iter().enumerate() {
                let list = if i % 2 == 0 { trie.exact_mut(key.as_bytes()) } else { trie.prefix_mut(key.as_bytes()) };
                list.push(i as u32);
            }
            let found = trie.find(path.as_bytes());
            let exact: Vec<u32> = found.exact.into_iter().flatten().copied().collect();
            let want: Vec<u32> = (0..keys.len()).filter(|i| i % 2 == 0 && keys[*i] == path).map(|i| i as u32).collect();
            prop_assert_eq!(exact, want);
            let mut prefixes: Vec<u32> = found.prefixes.into_iter().flatten().copied().collect();
            let lengths: Vec<usize> = prefixes.iter().map(|&i| keys[i as usize].len()).collect();
            prop_assert!(lengths.is_sorted());
            prefixes.sort_unstable();
            let want: Vec<u32> =
                (0..keys.len()).filter(|i| i % 2 == 1 && path.starts_with(&keys[*i])).map(|i| i as u32).collect();
            prop_assert_eq!(prefixes, want);
        }
    }
}
