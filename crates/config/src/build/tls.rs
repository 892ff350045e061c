//! `tls` of a listener and of a pool.

use fathom_core::plan::*;

use super::Cx;
use crate::form;
use crate::reader::Fields;

/// Also says which of the binds speak TLS (by marking them).
pub(super) fn listener(cx: &mut Cx<'_>, f: &Fields<'_>, binds: &mut [BindPlan]) -> TlsListenerPlan {
    match f.has("bind") {
        false => binds.iter_mut().for_each(|b| b.tls = true),
        true => {
            for (address, span) in f.each("bind", form::bind) {
                match binds.iter_mut().find(|b| b.address == address) {
                    Some(bind) => bind.tls = true,
                    None => {
                        let error = cx.error(
                            span,
                            "unknown-bind",
                            "the listener is not bound to this address",
                        );
                        error.help = Some(
                            "`tls.bind` chooses among the addresses of the listener's `bind`"
                                .into(),
                        );
                    }
                }
            }
        }
    }
    let certificates = certificates(cx, f);
    let client_auth = client_auth(cx, f);
    let redirect_http = f.bool("redirect_http");
    if redirect_http && binds.iter().all(|b| b.tls) {
        let message = "`redirect_http` has no effect: every bind of the listener speaks TLS";
        let error = cx.error(f.key_span("redirect_http"), "no-effect", message);
        error.help = Some("add `bind` to `tls` to name those that do".into());
    }
    let mut protocols: Vec<TlsProtocol> = Vec::new();
    for word in f.words("protocols") {
        let protocol = if word == "h2" {
            TlsProtocol::H2
        } else {
            TlsProtocol::Http1
        };
        if !protocols.contains(&protocol) {
            protocols.push(protocol);
        }
    }
    if protocols.is_empty() {
        cx.error(
            f.value_span("protocols"),
            "empty",
            "`protocols` must not be empty",
        );
    }
    TlsListenerPlan {
        certificates,
        min_version: if f.word("min_version") == "1.3" {
            TlsVersion::V1_3
        } else {
            TlsVersion::V1_2
        },
        protocols,
        client_auth,
        ticket_keys: cx.file_of(f, "ticket_keys"),
        handshake_rate: f.parsed("handshake_rate", form::rate),
        redirect_http,
    }
}

fn certificates(cx: &mut Cx<'_>, f: &Fields<'_>) -> Vec<CertificatePlan> {
    let nodes = f.nodes("certificates");
    if f.has("certificates") && nodes.is_empty() {
        cx.error(
            f.value_span("certificates"),
            "empty",
            "`tls` needs at least one certificate",
        );
    }
    let mut list = Vec::new();
    for inner in nodes
        .into_iter()
        .filter_map(|node| f.inner("certificates", node, node.span))
    {
        let (cert, key, ocsp) = (
            cx.file_of(&inner, "cert"),
            cx.file_of(&inner, "key"),
            cx.file_of(&inner, "ocsp"),
        );
        if let (Some(cert), Some(key)) = (cert, key) {
            list.push(CertificatePlan { cert, key, ocsp });
        }
    }
    list
}

fn client_auth(cx: &mut Cx<'_>, f: &Fields<'_>) -> Option<ClientAuthPlan> {
    if !f.has("client_ca") {
        for key in ["client_auth", "client_crl", "client_identity_header"]
            .into_iter()
            .filter(|k| f.has(k))
        {
            let message = format!("`{key}` has no effect without `client_ca`");
            cx.error(f.key_span(key), "no-effect", message);
        }
        return None;
    }
    let crl: Vec<_> = f.each("client_crl", form::not_empty);
    Some(ClientAuthPlan {
        ca: cx.file_of(f, "client_ca")?,
        required: f.word("client_auth") == "required",
        crl: crl
            .into_iter()
            .map(|(text, span)| cx.file(&text, span))
            .collect(),
        identity_header: f.parsed("client_identity_header", form::edited_header),
    })
}

pub(super) fn client(cx: &mut Cx<'_>, f: &Fields<'_>) -> TlsClientPlan {
    let client = match (cx.file_of(f, "client_cert"), cx.file_of(f, "client_key")) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => {
            cx.error(
                f.key_span("client_cert"),
                "missing",
                "`client_cert` needs `client_key`",
            );
            None
        }
        (None, Some(_)) => {
            cx.error(
                f.key_span("client_key"),
                "missing",
                "`client_key` needs `client_cert`",
            );
            None
        }
    };
    let verify = f.bool("verify");
    if !verify && f.has("ca") {
        let message = "`ca` has no effect with `verify = false`";
        cx.error(f.key_span("ca"), "no-effect", message);
    }
    TlsClientPlan {
        server_name: f.parsed("server_name", form::host_name),
        ca: cx.file_of(f, "ca"),
        client,
        verify,
    }
}
