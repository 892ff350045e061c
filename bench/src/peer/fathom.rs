//! Fathom itself.

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::Command;

use super::{Door, Setting, write};

pub(super) fn command(
    setting: &Setting<'_>,
    door: Door,
    io: &str,
    listen: SocketAddr,
    admin: SocketAddr,
) -> Result<Command, String> {
    let binary = setting.fathom.ok_or("no --fathom BINARY given")?;
    let config = write(
        setting,
        "fathom.toml",
        &text(setting, door, io, listen, admin),
    )?;
    let mut command = Command::new(binary);
    command.arg("run").arg("-c").arg(config);
    Ok(command)
}

fn text(
    setting: &Setting<'_>,
    door: Door,
    io: &str,
    listen: SocketAddr,
    admin: SocketAddr,
) -> String {
    let servers: Vec<String> = setting.servers.iter().map(|s| format!("\"{s}\"")).collect();
    let mut text = format!(
        "[admin]\nbind = \"{admin}\"\n[runtime]\nworkers = 1\nio = \"{io}\"\n[log]\nlevel = \"warn\"\naccess = \"off\"\n\
         [pools.servers]\nbalance = \"round-robin\"\nservers = [{}]\n",
        servers.join(", ")
    );
    if !matches!(door, Door::Stream | Door::Udp) {
        text.push_str("keepalive = { idle = 1024, timeout = \"600s\" }\n");
    }
    if door == Door::Grpc {
        text.push_str("protocol = \"http2\"\n");
    }
    let depth = if matches!(door, Door::Stream | Door::Udp) {
        "stream"
    } else {
        "http"
    };
    let _ = write!(
        text,
        "[listeners.bench]\nbind = \"{listen}\"\ndepth = \"{depth}\"\n"
    );
    if door == Door::Udp {
        text.push_str("protocol = \"udp\"\n");
    } else if depth == "http" {
        text.push_str("timeouts = { idle = \"600s\" }\n");
    }
    if door == Door::Grpc {
        text.push_str("protocols = [\"h2c\"]\n");
    }
    match door {
        Door::Routes(count) => text.push_str(&routes(count)),
        _ => text.push_str("pool = \"servers\"\n"),
    }
    if door == Door::Https {
        let certificate = setting.certificate;
        let _ = write!(
            text,
            "[listeners.bench.tls]\ncertificates = [{{ cert = \"{}\", key = \"{}\" }}]\n",
            certificate.cert.display(),
            certificate.key.display()
        );
    }
    text
}

/// So many routes of mixed kinds; requests are for the last one.
fn routes(count: usize) -> String {
    let mut text = String::new();
    for n in 0..count {
        let condition = match n % 3 {
            _ if n + 1 == count => "host = \"bench.example\", path = \"/128/*\"".to_owned(),
            0 => format!("host = \"h{n}.example\""),
            1 => format!("path = \"/p{n}/*\""),
            _ => format!("host = \"h{n}.example\", path = \"/q{n}/*\", method = [\"GET\"]"),
        };
        let _ = write!(
            text,
            "[[listeners.bench.routes]]\nmatch = {{ {condition} }}\npool = \"servers\"\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Certificate;

    #[test]
    fn its_configurations_are_valid() {
        let certificate = Certificate {
            cert: "c.pem".into(),
            key: "c.key".into(),
            both: "both.pem".into(),
        };
        let servers = [
            "127.0.0.1:1".parse().unwrap(),
            "127.0.0.1:2".parse().unwrap(),
        ];
        let doors = [
            Door::Http,
            Door::Routes(3),
            Door::Routes(1000),
            Door::Stream,
            Door::Udp,
            Door::Https,
            Door::Grpc,
        ];
        for door in doors {
            let setting = Setting {
                door,
                servers: &servers,
                directory: std::path::Path::new("."),
                fathom: None,
                cores: crate::process::Cores {
                    balancer: 0,
                    load: 1,
                },
                certificate: &certificate,
            };
            let text = text(
                &setting,
                door,
                "auto",
                ([127, 0, 0, 1], 3).into(),
                ([127, 0, 0, 1], 4).into(),
            );
            if let Err(errors) = fathom_config::load_str("fathom.toml", &text) {
                panic!("{door:?}: {errors:?}\n{text}");
            }
        }
    }
}
