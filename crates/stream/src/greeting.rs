//! The PROXY protocol header a server gets first, where its pool asks for one.

use std::net::SocketAddr;

use fathom_core::ClientInfo;
use fathom_core::plan::ProxyVersion;
use fathom_wire::client_hello::Hello;
use fathom_wire::proxy::{Addresses, Tlv, Transport, V2, encode_v1, encode_v2};

/// Appends the header for `client`. A version 2 header passes on what came in the client's own header and names what a
/// peeked `hello` asked for.
pub(crate) fn write(
    version: ProxyVersion,
    client: &ClientInfo,
    hello: Option<&Hello>,
    out: &mut Vec<u8>,
) {
    let ClientInfo {
        peer: source,
        local: destination,
        ..
    } = *client;
    match version {
        ProxyVersion::V1 => encode_v1(source, destination, out),
        ProxyVersion::V2 => {
            let passed_on = client
                .proxy_tlvs
                .iter()
                .map(|(kind, value)| Tlv { kind: *kind, value });
            encode_v2(
                &described(source, destination, client, hello),
                passed_on,
                out,
            );
        }
    }
}

fn described<'a>(
    source: SocketAddr,
    destination: SocketAddr,
    client: &'a ClientInfo,
    hello: Option<&'a Hello>,
) -> V2<'a> {
    let tls = client.tls.as_deref();
    let peeked = hello.and_then(|h| h.sni.as_deref());
    let terminated = tls.and_then(|t| t.sni.as_deref());
    V2 {
        addresses: Addresses::Ip {
            source,
            destination,
            transport: Transport::Stream,
        },
        authority: peeked.or(terminated).map(str::as_bytes),
        // What a hello offers is not what will be agreed on: only a terminated handshake knows.
        alpn: tls.and_then(|t| t.alpn.as_deref()),
    }
}
