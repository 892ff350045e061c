//! The process: build, driver, workers, reloads, access log, certificates, names.

use super::text::Text;
use crate::State;

pub(super) fn write(text: &mut Text, state: &State) {
    text.gauge("build_info", "The program; always 1.")
        .sample(&[("version", state.version)], 1);
    text.gauge("io_driver_info", "What carries the sockets; always 1.")
        .sample(&[("driver", state.driver)], 1);
    text.gauge(
        "start_time_seconds",
        "When the process was started, Unix time.",
    )
    .sample(&[], state.started.as_secs_f64());
    text.gauge("workers", "Data-path threads.")
        .sample(&[], state.workers);
    text.counter(
        "worker_panics_total",
        "Workers that panicked and were started again.",
    )
    .sample(&[], state.worker_panics);
    reloads(text, state);
    if let Some(log) = &state.access_log {
        text.counter("access_log_records_total", "Access-log records written.")
            .sample(&[], log.written);
        text.counter(
            "access_log_dropped_records_total",
            "Access-log records lost: the target was too slow or failed.",
        )
        .sample(&[], log.dropped);
    }
    certificates(text, state);
    let mut failing = text.gauge(
        "name_resolution_failing",
        "Whether a host name could not be resolved lately.",
    );
    for name in &state.names {
        failing.sample(
            &[("pool", &name.pool), ("host", &name.host)],
            u8::from(name.problem.is_some()),
        );
    }
}

fn reloads(text: &mut Text, state: &State) {
    let mut total = text.counter(
        "reloads_total",
        "Reloads of the configuration, by what became of them.",
    );
    total.sample(&[("result", "ok")], state.reloads.ok);
    total.sample(&[("result", "failed")], state.reloads.failed);
    text.gauge(
        "last_reload_successful",
        "Whether the last reload took effect (1 before the first).",
    )
    .sample(&[], u8::from(state.reloads.last_error.is_none()));
}

fn certificates(text: &mut Text, state: &State) {
    let mut expiry = text.gauge(
        "tls_certificate_not_after_timestamp_seconds",
        "End of a certificate's validity, Unix time.",
    );
    for certificate in &state.certificates {
        expiry.sample(
            &[
                ("listener", &certificate.listener),
                ("path", &certificate.path),
            ],
            certificate.not_after_unix_seconds,
        );
    }
    let mut failing = text.gauge(
        "tls_certificate_failing",
        "Whether a certificate's files cannot be used as they are now.",
    );
    for certificate in &state.certificates {
        failing.sample(
            &[
                ("listener", &certificate.listener),
                ("path", &certificate.path),
            ],
            u8::from(certificate.error.is_some()),
        );
    }
}
