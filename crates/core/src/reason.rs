//! Why Fathom answered itself, gave up or closed: one table.
//!
//! The code goes into the `Fathom-Reason` header, the access log and the metrics. The reaction to
//! each (status, who is to blame, whether the server is counted as erring) is decided here and
//! nowhere else.

/// Who is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// What the client sent, or did not send in time.
    Client,
    /// What the server did, or did not do in time.
    Server,
    /// What the configuration says: it is as wanted.
    Config,
    /// The machine Fathom runs on.
    Machine,
}

/// What is known about a reason besides its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Facts {
    code: &'static str,
    /// HTTP status sent when nothing was sent yet; 0 = nothing is ever answered, the connection closes.
    status: u16,
    blame: Blame,
    /// Counts against the server in outlier ejection.
    counts: bool,
    /// How it reads in a log or on the dashboard.
    text: &'static str,
}

macro_rules! reasons {
    ($( $name:ident = $code:literal, $status:literal, $blame:ident, $counts:literal, $text:literal; )*) => {
        /// Why Fathom answered itself, gave up or closed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason { $( #[doc = $text] $name, )* }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Self] = &[ $( Self::$name, )* ];
            const FACTS: &'static [Facts] = &[ $( Facts {
                code: $code, status: $status, blame: Blame::$blame, counts: $counts, text: $text,
            }, )* ];
        }
    };
}

reasons! {
    // What the client did.
    MalformedRequest = "malformed-request", 400, Client, false, "The request breaks the protocol's grammar.";
    AmbiguousRequest = "ambiguous-request", 400, Client, false, "The request can be read in two ways (framing, host).";
    UnsupportedVersion = "unsupported-version", 505, Client, false, "A protocol version Fathom does not speak.";
    UnsupportedTransferCoding = "unsupported-transfer-coding", 501, Client, false, "A transfer coding other than chunked.";
    HeaderTooLarge = "header-too-large", 431, Client, false, "The header section is over its limit.";
    UriTooLong = "uri-too-long", 414, Client, false, "The request target is over its limit.";
    BodyTooLarge = "body-too-large", 413, Client, false, "The request body is over max_body.";
    ExpectationFailed = "expectation-failed", 417, Client, false, "An Expect other than 100-continue.";
    MethodNotAllowed = "method-not-allowed", 405, Client, false, "A method that is not forwarded (CONNECT without a tunnel).";
    HeaderTimeout = "header-timeout", 408, Client, false, "The request's header did not arrive in time.";
    BodyTimeout = "body-timeout", 408, Client, false, "The request's body paused for too long.";
    Idle = "idle", 0, Client, false, "Nothing was sent for the idle time.";
    WriteTimeout = "write-timeout", 0, Client, false, "The client did not take the response in time.";
    ClientGone = "client-gone", 0, Client, false, "The client closed or reset before it was answered.";
    ProxyHeaderInvalid = "proxy-header-invalid", 400, Client, false, "A PROXY protocol header was required and is missing or wrong.";
    ProxyHeaderTimeout = "proxy-header-timeout", 0, Client, false, "A PROXY protocol header did not arrive in time.";
    // TLS with the client.
    TlsHandshakeFailed = "tls-handshake-failed", 0, Client, false, "The TLS handshake failed.";
    TlsHandshakeTimeout = "tls-handshake-timeout", 0, Client, false, "The TLS handshake did not end in time.";
    TlsNotTls = "tls-not-tls", 400, Client, false, "Something other than TLS was sent to a TLS port.";
    TlsNoCertificate = "tls-no-certificate", 0, Client, false, "A client certificate was required and none was shown.";
    TlsBadCertificate = "tls-bad-certificate", 0, Client, false, "The client's certificate is not valid here.";
    TlsRate = "tls-rate", 0, Config, false, "Over the listener's handshake_rate.";
    TlsMisdirected = "tls-misdirected", 421, Client, false, "The request's host does not fit the connection's SNI.";
    // HTTP/2 with the client.
    H2Protocol = "h2-protocol", 0, Client, false, "The client broke the HTTP/2 protocol.";
    H2Flood = "h2-flood", 0, Client, false, "The client sent a flood of cheap HTTP/2 frames.";
    H2Refused = "h2-refused", 503, Machine, false, "The stream was refused; it can be sent again.";
    GrpcDeadline = "grpc-deadline", 504, Client, false, "The call's own grpc-timeout ran out.";
    // What the configuration says.
    NoRoute = "no-route", 404, Config, false, "No route matches.";
    Redirect = "redirect", 302, Config, false, "The route redirects.";
    Respond = "respond", 200, Config, false, "The route answers itself.";
    Denied = "denied", 403, Config, false, "The route or listener refuses this client.";
    OverConnectionLimit = "over-connection-limit", 429, Config, false, "Over limits.connections.";
    OverClientLimit = "over-client-limit", 429, Config, false, "Over limits.connections_per_client.";
    OverRate = "over-rate", 429, Config, false, "Over limits.connection_rate_per_client.";
    // No server.
    NoServer = "no-server", 503, Server, false, "No server of the pool is healthy.";
    PoolEmpty = "pool-empty", 503, Config, false, "The pool has no server (its names resolve to nothing).";
    PoolFull = "pool-full", 503, Server, false, "Every server is at max_connections and there is no queue.";
    QueueFull = "queue-full", 503, Server, false, "Every server is at max_connections and the queue is full.";
    QueueTimeout = "queue-timeout", 503, Server, false, "Waited in the queue for too long.";
    ServersExhausted = "servers-exhausted", 502, Server, false, "Every server that could be tried was tried.";
    // What a server did.
    ConnectFailed = "connect-failed", 503, Server, true, "The server refused the connection or is unreachable.";
    ConnectTimeout = "connect-timeout", 503, Server, true, "The server did not accept the connection in time.";
    ServerTls = "server-tls", 502, Server, true, "The TLS handshake with the server failed.";
    ServerReset = "server-reset", 502, Server, true, "The server closed or reset before any byte of its response.";
    ResponseTimeout = "response-timeout", 504, Server, true, "The response's head did not arrive in time.";
    ResponseStalled = "response-stalled", 0, Server, true, "The response's body paused for too long.";
    BadResponse = "bad-response", 502, Server, true, "The server's answer breaks the protocol's grammar.";
    ResponseHeaderTooLarge = "response-header-too-large", 502, Server, true, "The response's header section is over its limit.";
    ShortBody = "short-body", 0, Server, true, "The server ended the body before the length it had said.";
    ServerH2 = "server-h2", 502, Server, true, "The server broke the HTTP/2 protocol.";
    // The machine.
    OutOfDescriptors = "out-of-descriptors", 503, Machine, false, "Out of file descriptors.";
    OutOfMemory = "out-of-memory", 503, Machine, false, "Out of memory or kernel buffers.";
    OutOfPorts = "out-of-ports", 503, Machine, false, "Out of local ports towards the server.";
    ShuttingDown = "shutting-down", 503, Machine, false, "Fathom is shutting down.";
    WorkerPanicked = "worker-panicked", 0, Machine, false, "A worker failed and its connections were closed.";
    Internal = "internal", 500, Machine, false, "A fault of Fathom itself.";
}

impl Reason {
    /// How many there are: for arrays indexed by [`Reason::index`].
    pub const COUNT: usize = Self::ALL.len();

    const fn facts(self) -> &'static Facts {
        &Self::FACTS[self as usize]
    }

    /// The code, in kebab-case: header, log and metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.facts().code
    }

    /// One sentence for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        self.facts().text
    }

    /// The HTTP status to answer with while nothing was sent; `None` = close without an answer.
    #[must_use]
    pub const fn status(self) -> Option<u16> {
        match self.facts().status {
            0 => None,
            status => Some(status),
        }
    }

    /// Who is to blame.
    #[must_use]
    pub const fn blame(self) -> Blame {
        self.facts().blame
    }

    /// Whether the server is counted as erring (outlier ejection).
    #[must_use]
    pub const fn counts_against_server(self) -> bool {
        self.facts().counts
    }

    /// Whether a client that comes back later may fare better: `Retry-After` is sent.
    #[must_use]
    pub const fn retry_later(self) -> bool {
        matches!(self.facts().status, 429 | 503)
    }

    /// Its place in [`Reason::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The reason of that code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|r| r.as_str() == code)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_kebab_case_and_found_again() {
        for (i, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), i);
            let code = reason.as_str();
            assert!(
                code.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{code}"
            );
            assert_eq!(Reason::from_code(code), Some(*reason), "{code}");
        }
    }

    #[test]
    fn only_servers_are_counted_as_erring() {
        for reason in Reason::ALL.iter().filter(|r| r.counts_against_server()) {
            assert_eq!(reason.blame(), Blame::Server, "{reason}");
        }
    }
}
