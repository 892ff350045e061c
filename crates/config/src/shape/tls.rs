//! `[listeners.NAME.tls]` and what is inside.

use super::{Kind, Section, default, optional, required};
use crate::form::{BIND, EDITED_HEADER, FILE, RATE};

pub(super) static TLS: Section = Section {
    name: "`tls` of a listener",
    doc: "TLS towards clients.",
    keys: &[
        optional(
            "bind",
            Kind::OneOrMany(&Kind::Text(&BIND)),
            "Which of the listener's binds speak TLS; by default all.",
        ),
        required(
            "certificates",
            Kind::List(&Kind::Table(&CERTIFICATE)),
            "Chosen by SNI; the first is the default. Files are watched.",
        ),
        default(
            "min_version",
            Kind::OneOf(&["1.2", "1.3"], &[]),
            "\"1.2\"",
            "Lowest version spoken.",
        ),
        default(
            "protocols",
            Kind::List(&Kind::OneOf(&["h2", "http1"], &["h3", "http3"])),
            "[\"h2\", \"http1\"]",
            "Offered by ALPN, in this order.",
        ),
        optional(
            "client_ca",
            Kind::Text(&FILE),
            "Ask for client certificates signed by these.",
        ),
        default(
            "client_auth",
            Kind::OneOf(&["optional", "required"], &[]),
            "\"optional\"",
            "Whether a client without a certificate is refused; with `client_ca`.",
        ),
        optional(
            "client_crl",
            Kind::OneOrMany(&Kind::Text(&FILE)),
            "Revocation lists; with `client_ca`.",
        ),
        optional(
            "client_identity_header",
            Kind::Text(&EDITED_HEADER),
            "Header that carries the client's identity to servers, and is stripped from what clients send; with `client_ca`.",
        ),
        optional(
            "ticket_keys",
            Kind::Text(&FILE),
            "Keys of resumption tickets, shared by a fleet; by default own keys, rotated.",
        ),
        optional("handshake_rate", Kind::Text(&RATE), "Most new handshakes."),
        default(
            "redirect_http",
            Kind::Bool,
            "false",
            "Cleartext binds answer 308 to https.",
        ),
    ],
};

static CERTIFICATE: Section = Section {
    name: "a certificate",
    doc: "A certificate and its key.",
    keys: &[
        required("cert", Kind::Text(&FILE), "PEM chain, leaf first."),
        required("key", Kind::Text(&FILE), "PEM private key."),
        optional("ocsp", Kind::Text(&FILE), "DER OCSP response to staple."),
    ],
};
