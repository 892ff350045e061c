//! When a request is sent again: pure decisions over what happened and what the route allows.

use fathom_codec::head::Method;
use fathom_core::Tick;
use fathom_core::plan::{RetryOn, RetryPlan};
use fathom_core::retry::Budget;

/// What ended an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// No connection: nothing was sent.
    Connect,
    /// The connection broke; `heard`: within the response's head.
    Reset { heard: bool },
    /// The server did surely nothing about it.
    Unprocessed,
    /// gRPC's UNAVAILABLE, and nothing else.
    GrpcUnavailable,
    /// No response's head in time.
    Timeout,
    /// This status.
    Status(u16),
    /// Something no other server mends.
    Never,
}

/// What is left of a request's retries.
pub(super) struct Retry<'a> {
    plan: &'a RetryPlan,
    budget: &'a Budget,
    left: u32,
    idempotent: bool,
}

impl<'a> Retry<'a> {
    pub(super) fn new(plan: &'a RetryPlan, budget: &'a Budget, method: Method) -> Self {
        budget.request();
        Self {
            plan,
            budget,
            left: plan.attempts,
            idempotent: method.is_idempotent(),
        }
    }

    /// Whether sending it once more does what sending it once does: nothing of its content is gone, and doing it
    /// twice would be the same (RFC 9110 §9.2.2: a proxy MUST NOT automatically retry non-idempotent requests).
    pub(super) fn is_repeatable(&self, content_sent: u64) -> bool {
        self.idempotent && content_sent == 0
    }

    /// Whether the route asks for it and it is safe.
    pub(super) fn may(&self, cause: Cause, content_sent: u64) -> bool {
        let on = |what| self.plan.on.contains(&what);
        let asked = match cause {
            Cause::Connect => return self.left > 0 && on(RetryOn::ConnectFailure),
            // RFC 9113 §8.7: may be sent again whatever the method.
            Cause::Unprocessed => {
                let asked = on(RetryOn::ConnectFailure) || on(RetryOn::Reset);
                return asked && self.left > 0 && content_sent == 0;
            }
            // Calls are POST; that this status says nothing was done is what whoever asks for it knows.
            Cause::GrpcUnavailable => {
                return on(RetryOn::GrpcUnavailable) && self.left > 0 && content_sent == 0;
            }
            Cause::Reset { heard } => !heard && on(RetryOn::Reset),
            Cause::Timeout => on(RetryOn::Timeout),
            Cause::Status(status) => on(RetryOn::Status(status)),
            Cause::Never => false,
        };
        asked && self.left > 0 && self.is_repeatable(content_sent)
    }

    /// As [`Retry::may`], and within the budget; counts it if so. What reached no server needs no budget.
    pub(super) fn allows(&mut self, cause: Cause, content_sent: u64, now: Tick) -> bool {
        let allowed =
            self.may(cause, content_sent) && (cause == Cause::Connect || self.budget.withdraw(now));
        self.left -= u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_again() {
        let plan = |on: &[RetryOn]| RetryPlan {
            attempts: 1,
            on: on.to_vec(),
            budget: 1.0,
        };
        let usual = plan(&[RetryOn::ConnectFailure, RetryOn::Reset]);
        let all = plan(&[
            RetryOn::ConnectFailure,
            RetryOn::Reset,
            RetryOn::Timeout,
            RetryOn::Status(503),
            RetryOn::GrpcUnavailable,
        ]);
        let reset = Cause::Reset { heard: false };
        let table = [
            (&usual, Method::Get, Cause::Connect, 0, true),
            (&usual, Method::Post, Cause::Connect, 0, true),
            (&usual, Method::Get, reset, 0, true),
            (&usual, Method::Post, reset, 0, false),
            (&usual, Method::Put, reset, 0, true),
            (&usual, Method::Put, reset, 1, false),
            (&usual, Method::Get, Cause::Reset { heard: true }, 0, false),
            (&usual, Method::Get, Cause::Timeout, 0, false),
            (&all, Method::Get, Cause::Timeout, 0, true),
            (&all, Method::Get, Cause::Status(503), 0, true),
            (&all, Method::Get, Cause::Status(502), 0, false),
            (&all, Method::Post, Cause::Status(503), 0, false),
            (&all, Method::Get, Cause::Never, 0, false),
            (&usual, Method::Post, Cause::Unprocessed, 0, true),
            (&usual, Method::Post, Cause::Unprocessed, 1, false),
            (&usual, Method::Post, Cause::GrpcUnavailable, 0, false),
            (&all, Method::Post, Cause::GrpcUnavailable, 0, true),
            (&all, Method::Post, Cause::GrpcUnavailable, 1, false),
        ];
        for (plan, method, cause, sent, expected) in table {
            let budget = Budget::new(1.0);
            let mut retry = Retry::new(plan, &budget, method);
            assert_eq!(
                retry.allows(cause, sent, Tick(1)),
                expected,
                "{method:?} {cause:?} {sent}"
            );
            assert!(
                !retry.allows(cause, sent, Tick(1)) || !expected,
                "one attempt only"
            );
        }
    }

    #[test]
    fn a_spent_budget_refuses_all_but_what_reached_no_server() {
        let plan = RetryPlan {
            attempts: 99,
            on: vec![RetryOn::ConnectFailure, RetryOn::Reset],
            budget: 0.0,
        };
        let budget = Budget::new(0.0);
        let mut retry = Retry::new(&plan, &budget, Method::Get);
        let now = Tick::from_millis(10_000);
        let resets = (0..10)
            .filter(|_| retry.allows(Cause::Reset { heard: false }, 0, now))
            .count();
        assert_eq!(resets, 3, "three a second are always allowed");
        assert!(retry.allows(Cause::Connect, 0, now));
    }
}
