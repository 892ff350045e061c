//! HAProxy, as Debian packages it.

use std::net::SocketAddr;
use std::process::Command;

use super::{Door, Setting, lines, program, write};

pub(super) fn command(setting: &Setting<'_>, listen: SocketAddr) -> Result<Command, String> {
    let proto = if setting.door == Door::Grpc {
        " proto h2"
    } else {
        ""
    };
    let servers = lines(setting.servers, |n, s| format!("  server s{n} {s}{proto}"));
    let (mode, bind) = match setting.door {
        Door::Udp => return Err("HAProxy does not balance UDP".to_owned()),
        Door::Stream => ("tcp", String::new()),
        Door::Https => (
            "http",
            format!(
                " ssl crt {} alpn h2,http/1.1",
                setting.certificate.both.display()
            ),
        ),
        Door::Grpc => ("http", " proto h2".to_owned()),
        _ => ("http", String::new()),
    };
    let http = if mode == "http" {
        "  http-reuse always\n  option forwardfor\n  option http-keep-alive\n"
    } else {
        ""
    };
    let most = crate::process::most_clients();
    let text = format!(
        "global\n  no strict-limits\n  nbthread 1\n  maxconn {most}\n  tune.ssl.default-dh-param 2048\n  \
         ssl-default-bind-options ssl-min-ver TLSv1.2\ndefaults\n  mode {mode}\n{http}  timeout connect 5s\n  \
         timeout client 600s\n  timeout server 600s\n  timeout http-keep-alive 600s\n\
         frontend in\n  maxconn {most}\n  bind {listen}{bind}\n  default_backend servers\n\
         backend servers\n  balance roundrobin\n{servers}"
    );
    let config = write(setting, "haproxy.cfg", &text)?;
    let mut command = Command::new(program("haproxy")?);
    command.arg("-db").arg("-f").arg(config);
    Ok(command)
}
