//! `[admin]`, `[runtime]`, `[log]`.

use fathom_core::plan::*;

use super::Cx;
use crate::form;
use crate::reader::Fields;

pub(super) fn admin(cx: &mut Cx<'_>, fields: Fields<'_>) -> Option<AdminPlan> {
    let token = fields
        .text("token")
        .filter(|t| !t.is_empty())
        .map(str::to_owned);
    let bind = fields.parsed("bind", form::admin_bind)?;
    let span = fields.value_span("bind");
    if let AdminBind::Tcp(address) = bind {
        cx.binds.push(super::binds::Bound::admin(address, span));
        if !address.ip().is_loopback() && !fields.has("token") {
            let message = "the admin side is open to the network and has no token";
            let error = cx.error(span, "admin-token", message);
            error.help = Some(
                "add `token = \"${FATHOM_TOKEN}\"`, or bind it to 127.0.0.1 or to a unix socket"
                    .into(),
            );
        }
    }
    Some(AdminPlan {
        bind,
        token,
        origin: cx.origin(fields.span),
    })
}

pub(super) fn runtime(fields: Option<Fields<'_>>) -> RuntimePlan {
    let Some(fields) = fields else {
        let shutdown_grace = std::time::Duration::from_secs(30);
        return RuntimePlan {
            workers: None,
            io: IoChoice::Auto,
            user: None,
            shutdown_grace,
        };
    };
    RuntimePlan {
        workers: fields
            .integer::<i64>("workers")
            .and_then(|n| std::num::NonZeroUsize::new(usize::try_from(n).ok()?)),
        io: match fields.word("io").as_str() {
            "uring" => IoChoice::Uring,
            "epoll" => IoChoice::Epoll,
            _ => IoChoice::Auto,
        },
        user: fields.text("user").map(str::to_owned),
        shutdown_grace: fields.or_default("shutdown_grace", form::duration),
    }
}

pub(super) fn log(cx: &Cx<'_>, fields: Option<Fields<'_>>) -> LogPlan {
    let Some(fields) = fields else {
        return LogPlan {
            level: LogLevel::Info,
            access: AccessTarget::Stdout,
            format: AccessFormat::Json,
        };
    };
    LogPlan {
        level: match fields.word("level").as_str() {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            _ => LogLevel::Info,
        },
        access: match fields.word("access").as_str() {
            "off" => AccessTarget::Off,
            "stdout" => AccessTarget::Stdout,
            "stderr" => AccessTarget::Stderr,
            file => AccessTarget::File(cx.path(file, fields.value_span("access"))),
        },
        format: match fields.word("format").as_str() {
            "combined" => AccessFormat::Combined,
            "logfmt" => AccessFormat::Logfmt,
            _ => AccessFormat::Json,
        },
    }
}
