//! The stream router: by what a ClientHello says and where it came from.

use std::cmp::Reverse;
use std::net::IpAddr;

use fathom_core::plan::StreamRoutePlan;

use crate::condition::{show, show_nets, source_matches};
use crate::explain::Verdict;
use crate::host::{Host, HostMap, host_matches, show_host};

/// Finds the route of a connection: SNI first (exact, then the longest `*.suffix`, then none), then the number
/// of further conditions (ALPN, source), then file order.
#[derive(Debug)]
pub struct StreamRouter {
    routes: Vec<StreamRoutePlan>,
    names: HostMap<Vec<u32>>,
}

/// One route, and what became of it.
#[derive(Clone, Debug)]
pub struct StreamStep {
    /// Its place in the file.
    pub index: usize,
    /// What became of it.
    pub verdict: Verdict,
    /// Why, in words.
    pub why: String,
}

fn conditions(route: &StreamRoutePlan) -> usize {
    usize::from(!route.alpn.is_empty()) + usize::from(!route.source.is_empty())
}

impl StreamRouter {
    /// Of the routes of one listener, in file order.
    #[must_use]
    pub fn new(routes: &[StreamRoutePlan]) -> Self {
        let mut names = HostMap::<Vec<u32>>::default();
        for (index, route) in routes.iter().enumerate() {
            if route.sni.is_empty() {
                names.entry(None).push(index as u32);
            }
            for name in &route.sni {
                names.entry(Some(name)).push(index as u32);
            }
        }
        for list in names.values_mut() {
            list.sort_by_key(|&i| (Reverse(conditions(&routes[i as usize])), i));
            list.dedup();
        }
        Self {
            routes: routes.to_vec(),
            names,
        }
    }

    /// Whether a ClientHello must be read before [`StreamRouter::find`] can tell.
    #[must_use]
    pub fn needs_hello(&self) -> bool {
        self.routes
            .iter()
            .any(|r| !r.sni.is_empty() || !r.alpn.is_empty())
    }

    /// The most specific route that fits; `alpn` is what the client offers.
    #[must_use]
    pub fn find<'a>(
        &self,
        sni: Option<&str>,
        alpn: impl Iterator<Item = &'a [u8]> + Clone,
        source: IpAddr,
    ) -> Option<&StreamRoutePlan> {
        self.find_index(sni, alpn, source).map(|i| &self.routes[i])
    }

    /// As [`StreamRouter::find`]: the route's place in the file.
    #[must_use]
    pub fn find_index<'a>(
        &self,
        sni: Option<&str>,
        alpn: impl Iterator<Item = &'a [u8]> + Clone,
        source: IpAddr,
    ) -> Option<usize> {
        let name = Host::new(sni.unwrap_or_default().as_bytes());
        self.names.find(name.as_bytes(), |list| {
            list.iter().map(|&i| i as usize).find(|&i| {
                let route = &self.routes[i];
                alpn_fits(route, alpn.clone()) && source_matches(&route.source, source)
            })
        })
    }

    /// Every route and why it wins or not, the winner first.
    #[must_use]
    pub fn explain<'a>(
        &self,
        sni: Option<&str>,
        alpn: impl Iterator<Item = &'a [u8]> + Clone,
        source: IpAddr,
    ) -> Vec<StreamStep> {
        let name = Host::new(sni.unwrap_or_default().as_bytes());
        let winner = self.find(sni, alpn.clone(), source).map(std::ptr::from_ref);
        let mut steps: Vec<StreamStep> = self
            .routes
            .iter()
            .enumerate()
            .map(|(index, route)| {
                let wins = winner == Some(std::ptr::from_ref(route));
                let (verdict, why) = match why_not(route, name.as_bytes(), alpn.clone(), source) {
                    Some(why) => (Verdict::Fails, why),
                    None if wins => (Verdict::Wins, "the most specific that matches".into()),
                    None => (
                        Verdict::Outranked,
                        "matches too, but the winner is more specific or comes first".into(),
                    ),
                };
                StreamStep {
                    index,
                    verdict,
                    why,
                }
            })
            .collect();
        steps.sort_by_key(|s| match s.verdict {
            Verdict::Wins => 0,
            Verdict::Outranked => 1,
            Verdict::Fails => 2,
        });
        steps
    }
}

fn alpn_fits<'a>(route: &StreamRoutePlan, mut offered: impl Iterator<Item = &'a [u8]>) -> bool {
    route.alpn.is_empty() || offered.any(|o| route.alpn.iter().any(|p| p.as_bytes() == o))
}

fn why_not<'a>(
    route: &StreamRoutePlan,
    name: &[u8],
    alpn: impl Iterator<Item = &'a [u8]>,
    source: IpAddr,
) -> Option<String> {
    if !route.sni.is_empty() && !route.sni.iter().any(|p| host_matches(p, name)) {
        let wanted: Vec<String> = route.sni.iter().map(show_host).collect();
        return Some(match name.is_empty() {
            true => format!(
                "the client names no server, the route wants {}",
                wanted.join(" or ")
            ),
            false => format!(
                "the server name is {}, not {}",
                show(name),
                wanted.join(" or ")
            ),
        });
    }
    if !alpn_fits(route, alpn) {
        return Some(format!(
            "the client does not offer {}",
            route.alpn.join(" or ")
        ));
    }
    (!source_matches(&route.source, source))
        .then(|| format!("the client {source} is not in {}", show_nets(&route.source)))
}
