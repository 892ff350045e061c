//! The http router: from a request to the route that wins.

use std::sync::Arc;

use fathom_core::plan::{ActionPlan, HostPattern, PathPattern, Regex, RewritePlan, RoutePlan};
use smallvec::SmallVec;

use crate::condition;
use crate::host::{Host, HostMap};
use crate::path::Path;
use crate::template;
use crate::trie::{Candidates, Trie};
use crate::view::RequestView;

/// Finds the route that wins; immutable, shared by every thread.
#[derive(Debug)]
pub struct Router {
    pub(crate) routes: Vec<Entry>,
    hosts: HostMap<PathTable>,
}

/// A route with what is computed once.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) plan: Arc<RoutePlan>,
    /// Number of further conditions.
    pub(crate) conditions: usize,
    /// Whether something of the route asks for `$1`.
    captures: bool,
}

/// The routes of one host pattern.
#[derive(Clone, Debug, Default)]
struct PathTable {
    paths: Trie,
    /// In file order of each expression's first use.
    regexes: Vec<(Regex, Candidates)>,
    any: Candidates,
}

/// The route that won.
#[derive(Debug)]
pub struct Match<'r, 'q> {
    /// Its place in the list the router was made from.
    pub index: usize,
    /// The route.
    pub route: &'r Arc<RoutePlan>,
    /// What its path pattern matched.
    pub captures: Captures<'q>,
}

/// What the `*` or the groups of a path pattern matched.
#[derive(Clone, Debug)]
pub struct Captures<'q> {
    pub(crate) path: Path<'q>,
    groups: SmallVec<[Option<(u32, u32)>; 4]>,
}

impl<'q> Captures<'q> {
    /// None, over this path: for a rewrite outside a route.
    #[must_use]
    pub fn none(path: Path<'q>) -> Self {
        Self {
            path,
            groups: SmallVec::new(),
        }
    }

    /// The path that was matched.
    #[must_use]
    pub fn path(&self) -> &Path<'q> {
        &self.path
    }

    /// Appends what `$n` stands for: as the client wrote it, safe for a URI. Nothing if it took no part.
    pub(crate) fn write_group(&self, n: usize, out: &mut Vec<u8>) {
        if let Some(Some((start, end))) = n.checked_sub(1).and_then(|n| self.groups.get(n)) {
            self.path.write_part(*start as usize, *end as usize, out);
        }
    }
}

impl Router {
    /// Of the routes of one listener, in file order.
    #[must_use]
    pub fn new(routes: &[Arc<RoutePlan>]) -> Self {
        let entries: Vec<Entry> = routes.iter().map(|plan| Entry::new(plan.clone())).collect();
        let mut hosts = HostMap::<PathTable>::default();
        for (index, entry) in entries.iter().enumerate() {
            for host in host_tiers(&entry.plan) {
                hosts
                    .entry(host)
                    .add(index as u32, entry.plan.matches.path.as_ref());
            }
        }
        for table in hosts.values_mut() {
            // Within one path pattern: more conditions first, then file order.
            table.for_each(&mut |candidates| {
                candidates.sort_by_key(|&i| (std::cmp::Reverse(entries[i as usize].conditions), i));
                candidates.dedup();
            });
        }
        Self {
            routes: entries,
            hosts,
        }
    }

    /// The most specific route all of whose conditions hold.
    #[must_use]
    pub fn find<'r, 'q>(&'r self, request: &RequestView<'q>) -> Option<Match<'r, 'q>> {
        let path = Path::new(request.path);
        let index = self
            .hosts
            .find(Host::new(request.host).as_bytes(), |table| {
                table.find(path.as_bytes(), &|i| {
                    let entry = &self.routes[i as usize];
                    entry.conditions == 0 || condition::hold(&entry.plan.matches, request)
                })
            })? as usize;
        let entry = &self.routes[index];
        Some(Match {
            index,
            route: &entry.plan,
            captures: entry.capture(path),
        })
    }

    /// The routes, in file order.
    pub fn routes(&self) -> impl ExactSizeIterator<Item = &Arc<RoutePlan>> {
        self.routes.iter().map(|entry| &entry.plan)
    }
}

/// The host patterns of a route; one `None` when it takes any host.
pub(crate) fn host_tiers(plan: &RoutePlan) -> impl Iterator<Item = Option<&HostPattern>> {
    let any = plan.matches.host.is_empty().then_some(None);
    plan.matches.host.iter().map(Some).chain(any)
}

impl Entry {
    fn new(plan: Arc<RoutePlan>) -> Self {
        let templates = [
            match &plan.action {
                ActionPlan::Redirect { to, .. } => Some(to),
                _ => None,
            },
            match &plan.rewrite {
                Some(RewritePlan::Path(to)) => Some(to),
                _ => None,
            },
        ];
        let captures = templates
            .into_iter()
            .flatten()
            .any(|t| template::highest_group(t) > 0);
        Self {
            conditions: condition::count(&plan.matches),
            captures,
            plan,
        }
    }

    fn capture<'q>(&self, path: Path<'q>) -> Captures<'q> {
        let mut captures = Captures::none(path);
        if !self.captures {
            return captures;
        }
        let bytes = captures.path.as_bytes();
        match &self.plan.matches.path {
            Some(PathPattern::Prefix(prefix)) => {
                let prefix = Path::new(prefix.as_bytes()).as_bytes().len();
                captures
                    .groups
                    .push(Some((prefix as u32, bytes.len() as u32)));
            }
            Some(PathPattern::Regex(regex)) => {
                let regex = regex.compiled();
                let mut slots: SmallVec<[_; 10]> =
                    SmallVec::from_elem(None, regex.captures_len() * 2);
                regex.search_slots(&regex_automata::Input::new(bytes), &mut slots);
                let groups = slots
                    .chunks_exact(2)
                    .skip(1)
                    .map(|pair| Some((pair[0]?, pair[1]?)));
                captures.groups = groups
                    .map(|g| g.map(|(a, b)| (a.get() as u32, b.get() as u32)))
                    .collect();
            }
            Some(PathPattern::Exact(_)) | None => {}
        }
        captures
    }
}

impl PathTable {
    fn add(&mut self, index: u32, path: Option<&PathPattern>) {
        let candidates = match path {
            None => &mut self.any,
            // Patterns are made comparable as paths are, so that `/a%20b` means the same as `/a b`.
            Some(PathPattern::Exact(text)) => {
                self.paths.exact_mut(Path::new(text.as_bytes()).as_bytes())
            }
            Some(PathPattern::Prefix(text)) => {
                self.paths.prefix_mut(Path::new(text.as_bytes()).as_bytes())
            }
            Some(PathPattern::Regex(regex)) => {
                let at = self
                    .regexes
                    .iter()
                    .position(|(r, _)| r == regex)
                    .unwrap_or_else(|| {
                        self.regexes.push((regex.clone(), Candidates::new()));
                        self.regexes.len() - 1
                    });
                &mut self.regexes[at].1
            }
        };
        candidates.push(index);
    }

    fn for_each(&mut self, f: &mut impl FnMut(&mut Candidates)) {
        self.paths.for_each(f);
        self.regexes.iter_mut().for_each(|(_, c)| f(c));
        f(&mut self.any);
    }

    fn find(&self, path: &[u8], holds: &dyn Fn(u32) -> bool) -> Option<u32> {
        let first = |candidates: &Candidates| candidates.iter().copied().find(|&i| holds(i));
        let found = self.paths.find(path);
        found
            .exact
            .and_then(first)
            .or_else(|| found.prefixes.iter().rev().copied().find_map(first))
            .or_else(|| {
                self.regexes
                    .iter()
                    .find_map(|(r, c)| r.is_match(path).then(|| first(c)).flatten())
            })
            .or_else(|| first(&self.any))
    }
}
