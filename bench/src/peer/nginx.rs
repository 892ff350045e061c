//! nginx, as Debian packages it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{Door, Setting, lines, program, write};

const STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub(super) fn command(
    setting: &Setting<'_>,
    listen: SocketAddr,
    beside: SocketAddr,
) -> Result<Command, String> {
    let directory = setting.directory.display();
    let servers = lines(setting.servers, |_, s| format!("    server {s};"));
    let (module, body) = match setting.door {
        Door::Stream | Door::Udp => {
            if !Path::new(STREAM).exists() {
                return Err("libnginx-mod-stream is not installed".to_owned());
            }
            (
                format!("load_module {STREAM};\n"),
                stream(setting.door, &servers, listen, beside),
            )
        }
        _ => (String::new(), http(setting, &servers, listen)),
    };
    let text = format!(
        "{module}daemon off;\nworker_processes 1;\npid {directory}/nginx.pid;\n\
         error_log stderr error;\nevents {{ worker_connections {}; }}\n{body}",
        crate::process::most_clients()
    );
    let config = write(setting, "nginx.conf", &text)?;
    let mut command = Command::new(program("nginx")?);
    command
        .arg("-p")
        .arg(setting.directory)
        .arg("-e")
        .arg("stderr")
        .arg("-c")
        .arg(config);
    Ok(command)
}

fn stream(door: Door, servers: &str, listen: SocketAddr, beside: SocketAddr) -> String {
    let listens = if door == Door::Udp {
        format!("listen {listen} udp; proxy_timeout 60s;")
    } else {
        format!("listen {listen};")
    };
    let knock = if door == Door::Udp {
        format!("  server {{ listen {beside}; return ''; }}\n")
    } else {
        String::new()
    };
    format!(
        "stream {{\n  access_log off;\n  upstream servers {{\n{servers}  }}\n  \
         server {{ {listens} proxy_pass servers; }}\n{knock}}}\n"
    )
}

/// Buffers: sizes that cost nginx least for large bodies (its defaults cost three times as much).
fn http(setting: &Setting<'_>, servers: &str, listen: SocketAddr) -> String {
    let directory = setting.directory.display();
    let certificate = setting.certificate;
    let (options, pass) = match setting.door {
        Door::Https => (
            format!(
                "listen {listen} ssl http2;\n    ssl_certificate {};\n    ssl_certificate_key {};\n    \
                 ssl_protocols TLSv1.2 TLSv1.3;\n    ssl_session_cache shared:tls:10m;\n    ssl_session_tickets on;",
                certificate.cert.display(),
                certificate.key.display()
            ),
            "proxy_pass http://servers;",
        ),
        Door::Grpc => (
            format!("listen {listen} http2;"),
            "grpc_pass grpc://servers;",
        ),
        _ => (format!("listen {listen};"), "proxy_pass http://servers;"),
    };
    let paths: String = ["body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| {
            let directive = if *name == "body" { "client_body" } else { name };
            format!("  {directive}_temp_path {directory}/{name};\n")
        })
        .collect();
    format!(
        "http {{\n{paths}  access_log off;\n  keepalive_requests 1000000000;\n  keepalive_timeout 600s;\n  \
         proxy_buffers 16 16k;\n  proxy_busy_buffers_size 64k;\n  \
         upstream servers {{\n{servers}    keepalive 1024;\n    keepalive_requests 1000000000;\n  }}\n  \
         server {{\n    {options}\n    location / {{\n      {pass}\n      proxy_http_version 1.1;\n      \
         proxy_set_header Connection \"\";\n      proxy_set_header Host $host;\n      \
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n      \
         grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n    }}\n  }}\n}}\n"
    )
}
