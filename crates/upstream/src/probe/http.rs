//! `http = "/path"`: a request is answered as expected. HTTP/1.1, or HTTP/2 where the pool speaks it.

mod expect;
mod h1;
pub(super) mod h2;

use fathom_core::plan::{HttpProbePlan, ProbePlan};

use super::{Checking, Failure, Kind, Probe, Target, wire};

pub(super) const KIND: Kind = Kind {
    make: |plan| match plan {
        ProbePlan::Http(plan) => Some(Box::new(Http { plan: plan.clone() })),
        _ => None,
    },
};

/// Of the body, as the configuration promises.
const BODY_LIMIT: usize = 64 * 1024;
const USER_AGENT: &str = concat!("fathom/", env!("CARGO_PKG_VERSION"), " (health check)");

struct Http {
    plan: HttpProbePlan,
}

/// What a server answered.
struct Response {
    status: u16,
    /// Its first [`BODY_LIMIT`] bytes.
    body: Vec<u8>,
}

impl Probe for Http {
    fn check<'a>(&'a self, target: &'a Target) -> Checking<'a> {
        Box::pin(async {
            let response = if target.http2 {
                self.over_h2(target).await?
            } else {
                h1::exchange(&self.plan, target).await?
            };
            expect::response(&self.plan, &response)
        })
    }
}

impl Http {
    async fn over_h2(&self, target: &Target) -> Result<Response, Failure> {
        let scheme = if target.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let authority = self.plan.host.clone().unwrap_or_else(|| target.authority());
        let mut request = ::http::Request::builder()
            .method(self.plan.method.as_str())
            .uri(format!("{scheme}://{authority}{}", self.plan.path))
            .header("user-agent", USER_AGENT);
        for (name, value) in &self.plan.headers {
            request = request.header(name, value);
        }
        let request = request
            .body(())
            .map_err(|e| Failure::new(format_args!("request: {e}")))?;
        let io = wire::connect_as_pool(target).await?;
        let answer = h2::exchange(io, request, None, BODY_LIMIT).await?;
        Ok(Response {
            status: answer.head.status.as_u16(),
            body: answer.body,
        })
    }
}
