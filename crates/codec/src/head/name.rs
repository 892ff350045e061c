//! Field names that the proxy treats in a way of their own.

/// A field's name, where it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Name {
    #[default]
    Other,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    ProxyConnection,
    Te,
    Trailer,
    Upgrade,
    Expect,
    Cookie,
    SetCookie,
    Date,
    Server,
    UserAgent,
    Referer,
    ContentType,
    Forwarded,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    XForwardedPort,
    XRealIp,
    Http2Settings,
    FathomReason,
}

/// Lower-case names by length, so that most fields are told apart by a jump and one comparison.
impl Name {
    /// Case-insensitive (RFC 9110 §5.1).
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let is = |lower: &str| name.eq_ignore_ascii_case(lower.as_bytes());
        let pick = |table: &[(&str, Self)]| {
            table
                .iter()
                .find(|(n, _)| is(n))
                .map_or(Self::Other, |(_, id)| *id)
        };
        match name.len() {
            2 => pick(&[("te", Self::Te)]),
            4 => pick(&[("host", Self::Host), ("date", Self::Date)]),
            6 => pick(&[
                ("cookie", Self::Cookie),
                ("server", Self::Server),
                ("expect", Self::Expect),
            ]),
            7 => pick(&[
                ("upgrade", Self::Upgrade),
                ("trailer", Self::Trailer),
                ("referer", Self::Referer),
            ]),
            9 => pick(&[("forwarded", Self::Forwarded), ("x-real-ip", Self::XRealIp)]),
            10 => pick(&[
                ("connection", Self::Connection),
                ("user-agent", Self::UserAgent),
                ("keep-alive", Self::KeepAlive),
                ("set-cookie", Self::SetCookie),
            ]),
            12 => pick(&[("content-type", Self::ContentType)]),
            13 => pick(&[("fathom-reason", Self::FathomReason)]),
            14 => pick(&[
                ("content-length", Self::ContentLength),
                ("http2-settings", Self::Http2Settings),
            ]),
            15 => pick(&[("x-forwarded-for", Self::XForwardedFor)]),
            16 => pick(&[
                ("proxy-connection", Self::ProxyConnection),
                ("x-forwarded-host", Self::XForwardedHost),
                ("x-forwarded-port", Self::XForwardedPort),
            ]),
            17 => pick(&[
                ("transfer-encoding", Self::TransferEncoding),
                ("x-forwarded-proto", Self::XForwardedProto),
            ]),
            _ => Self::Other,
        }
    }

    /// Whether the field speaks of one connection only and is never sent on as it came (RFC 9110 §7.6.1).
    /// `TE`, `Trailer` and `Upgrade` are decided by the sender.
    #[must_use]
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
                | Self::Http2Settings
        )
    }

    /// Whether the field must not stand in a trailer section (RFC 9110 §6.5.1): framing, routing, connection.
    #[must_use]
    pub fn is_forbidden_in_trailers(self) -> bool {
        self.is_hop_by_hop()
            || matches!(
                self,
                Self::Host
                    | Self::ContentLength
                    | Self::Trailer
                    | Self::Expect
                    | Self::Cookie
                    | Self::SetCookie
                    | Self::Forwarded
                    | Self::XForwardedFor
                    | Self::XForwardedProto
                    | Self::XForwardedHost
                    | Self::XForwardedPort
                    | Self::XRealIp
                    | Self::ContentType
            )
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn known_in_any_case() {
        for (text, id) in [
            ("Host", Name::Host),
            ("hOST", Name::Host),
            ("content-LENGTH", Name::ContentLength),
            ("Transfer-Encoding", Name::TransferEncoding),
            ("TE", Name::Te),
            ("X-Forwarded-For", Name::XForwardedFor),
            ("X_Forwarded-For", Name::Other),
            ("Hostx", Name::Other),
            ("", Name::Other),
        ] {
            assert_eq!(Name::of(text.as_bytes()), id, "{text}");
        }
    }
}
