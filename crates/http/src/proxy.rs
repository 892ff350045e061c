//! What a request goes through, whatever version it came in: client, route, action.

use std::borrow::Cow;

use fathom_codec::head::{Body, Name, Request, Version};
use fathom_core::plan::ActionPlan;
use fathom_core::{ClientInfo, Reason, Tick};
use fathom_io::timer::Timer;
use fathom_route::{Headers, Match, RequestView, expand, rewrite};
use smallvec::SmallVec;

use crate::account::Account;
use crate::exchange::{Front, Outbound};
use crate::forward::Forward;
use crate::forwarded::Client;
use crate::grpc;
use crate::reply::{Reply, send_reason, upload_is_open};
use crate::service::{Route, Service};

/// What a request is handled with.
pub(crate) struct Context<'a> {
    pub(crate) service: &'a Service,
    pub(crate) info: &'a ClientInfo,
    pub(crate) timer: &'a Timer,
}

struct Fields<'a>(Request<'a>);

impl Headers for Fields<'_> {
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.0.fields().any(|f| {
            f.name.len() == name.len()
                && f.name.eq_ignore_ascii_case(name.as_bytes())
                && test(f.value)
        })
    }
}

/// Answers one request. `began`: when its first byte was read.
pub(crate) async fn handle<F: Front>(front: &F, cx: &Context<'_>, began: Tick) {
    let request = front.request();
    let mut account = Account::new(cx.service, cx.info, began);
    let client = Client::of(cx.info, &cx.service.plan.trusted_proxies, request);
    account.source = client.source;
    let fields = Fields(request);
    let view = RequestView {
        method: request.method(),
        host: request.authority(),
        path: request.path(),
        query: request.query(),
        headers: &fields,
        source: client.source,
        sni: cx.info.tls.as_ref().and_then(|tls| tls.sni.as_deref()),
    };
    match cx.service.router.find(&view) {
        None => refuse(front, &mut account, Reason::NoRoute, 404),
        Some(found) => {
            let route = &cx.service.routes[found.index];
            account.routed(route);
            front.limit_body(route.max_body);
            match request.head.body() {
                // RFC 9110 §15.5.14.
                Body::Length(n) if n > route.max_body => {
                    refuse(front, &mut account, Reason::BodyTooLarge, 413)
                }
                _ => act(front, cx, &mut account, route, &found, &view, client).await,
            }
        }
    }
    account.close(Some(request), cx.info);
}

async fn act<F: Front>(
    front: &F,
    cx: &Context<'_>,
    account: &mut Account<'_>,
    route: &Route,
    found: &Match<'_, '_>,
    view: &RequestView<'_>,
    client: Client,
) {
    let own = |account: &mut Account<'_>, reply: Reply<'_>| {
        account.status = Some(reply.status);
        account.reason = Some(reply.reason);
        account.response_bytes = reply.send(front, upload_is_open(front));
    };
    match (&route.plan.action, &route.target) {
        (ActionPlan::Forward(_), Some(target)) => {
            let rewritten;
            let target_parts: SmallVec<[&[u8]; 3]> = match (&route.plan.rewrite, view.query) {
                (Some(plan), _) => {
                    rewritten = rewrite(plan, &found.captures, view);
                    SmallVec::from_slice(&[&*rewritten])
                }
                (None, None) => SmallVec::from_slice(&[view.path]),
                (None, Some(query)) => SmallVec::from_buf([view.path, b"?", query]),
            };
            let request = front.request();
            let (host, host_is_new) = host_of(cx, route, request);
            let outbound = Outbound {
                request,
                target: &target_parts,
                host: &host,
                host_is_new,
                body: request.head.body(),
                upgrade: wants_upgrade(request),
                edits: &route.request_edits,
                forwarded: &cx.service.plan.forwarded,
                info: cx.info,
                client,
                identity_header: cx.service.identity_header.as_deref(),
            };
            Forward {
                front,
                cx,
                route,
                target,
                view,
                outbound: &outbound,
                grpc: grpc::is_call(request),
                deadline: grpc::deadline(request, account.began),
            }
            .run(account)
            .await;
        }
        (ActionPlan::Redirect { to, status }, _) => {
            let location = expand(to, &found.captures, view);
            let fields = [("Location", &*location)];
            own(
                account,
                Reply {
                    status: *status,
                    reason: Reason::Redirect,
                    body: b"",
                    fields: &fields,
                },
            );
        }
        (
            ActionPlan::Respond {
                status,
                body,
                headers,
            },
            _,
        ) => {
            let fields: SmallVec<[(&str, &[u8]); 4]> = headers
                .iter()
                .map(|(n, v)| (n.as_str(), v.as_bytes()))
                .collect();
            own(
                account,
                Reply {
                    status: *status,
                    reason: Reason::Respond,
                    body: body.as_bytes(),
                    fields: &fields,
                },
            );
        }
        // `Service::new` gives every forwarding route its target.
        (ActionPlan::Forward(_), None) => refuse(front, account, Reason::Internal, 500),
    }
}

/// What `Host` is to say, and whether that is not what the client's field says.
fn host_of<'a>(cx: &Context<'a>, route: &'a Route, request: Request<'a>) -> (Cow<'a, [u8]>, bool) {
    if let Some(host) = route.request_edits.host() {
        return (Cow::Borrowed(host.as_bytes()), true);
    }
    if request.authority().is_empty() && request.head.version() == Version::Http10 {
        // A server of HTTP/1.1 wants one (RFC 9112 §3.2); the address that was asked for is all that is known.
        return (Cow::Owned(cx.info.local.to_string().into_bytes()), true);
    }
    // RFC 9112 §3.2.2: with absolute-form, Host is replaced by the target's.
    (
        Cow::Borrowed(request.authority()),
        request.head.authority_in_target(),
    )
}

/// Whether the client asks for an upgrade that may be passed on (RFC 9110 §7.8). Never to h2c: behind it requests
/// would go past everything that is checked here.
fn wants_upgrade(request: Request<'_>) -> bool {
    let head = request.head;
    // (The codec says so of HTTP/2 where RFC 8441 was spoken.)
    head.version() >= Version::Http11
        && head.fields().connection.upgrade
        && request.known(Name::Upgrade).is_some_and(|v| !v.is_empty())
        && !request.fields().filter(|f| f.id == Name::Upgrade).any(|f| {
            f.value.split(|b| *b == b',').any(|p| {
                p.trim_ascii().len() >= 3 && p.trim_ascii()[..3].eq_ignore_ascii_case(b"h2c")
            })
        })
}

/// Answers with a reason's own sentence.
pub(crate) fn refuse(front: &impl Front, account: &mut Account<'_>, reason: Reason, status: u16) {
    if grpc::is_call(front.request()) {
        return grpc::refuse(front, account, reason, status);
    }
    account.status = Some(status);
    account.reason = Some(reason);
    account.response_bytes = send_reason(front, reason, status, upload_is_open(front));
}
