//! nginx behind, curl in front.

use std::process::Command;

use fathom_testbed::fathom::Fathom;
use fathom_testbed::need;
use fathom_testbed::ports::Port;
use tempfile::TempDir;

use super::drivers;
use super::program::Program;
use crate::support::{Ask, Said, run};

const CONF: &str = r#"
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 256; }
http {
    access_log off;
    client_max_body_size 0;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {
        listen 127.0.0.1:PORT;
        root .;
        add_header X-Server NAME;
        location = /chunked { gzip on; gzip_min_length 1; gzip_types *; try_files /big.txt =404; }
    }
}
"#;

struct Nginx {
    _program: Program,
    port: Port,
    directory: TempDir,
}

fn nginx(name: &str) -> Option<Nginx> {
    let program = need::program("nginx")?;
    let port = Port::reserve();
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let conf = CONF
        .replace("PORT", &port.number().to_string())
        .replace("NAME", name)
        .replace("root .", &format!("root {}", at.display()));
    std::fs::write(at.join("nginx.conf"), conf).unwrap();
    std::fs::write(at.join("hello.txt"), "hello\n").unwrap();
    std::fs::write(at.join("big.txt"), big()).unwrap();
    let program = Program::start(
        Command::new(program)
            .args(["-e", "stderr", "-c", "nginx.conf", "-p"])
            .arg(format!("{}/", at.display()))
            .current_dir(at),
    )
    .accepts(port.v4());
    Some(Nginx {
        _program: program,
        port,
        directory,
    })
}

fn big() -> String {
    (0..400_000).map(|i| format!("{i}\n")).collect()
}

fn curl(fathom: &Fathom, arguments: &[&str], path: &str) -> Said {
    let url = format!("http://{}{path}", fathom.address("web"));
    let mut command = Command::new("curl");
    command
        .args(["-sS", "--max-time", "60", "--noproxy", "*"])
        .args(arguments)
        .arg(url);
    run(&mut command)
}

#[test]
fn nginx_and_curl() {
    if need::program("curl").is_none() {
        return;
    }
    let (Some(a), Some(b)) = (nginx("a"), nginx("b")) else {
        return;
    };
    for io in drivers() {
        let fathom = io.start(
            r#"
            [listeners.web]
            bind = "127.0.0.1:{web}"
            depth = "http"
            pool = "app"
            [pools.app]
            servers = ["<a>", "<b>"]
            health = { http = "/hello.txt", interval = "500ms", timeout = "10s", expect_body = "hello" }
            "#,
            &[("a", &a.port.v4()), ("b", &b.port.v4())],
        );
        // Many requests on one connection, spread over both.
        let heads = curl(
            &fathom,
            &["-o", "/dev/null", "-D", "-"],
            "/hello.txt?[1-20]",
        )
        .ok();
        assert_eq!(heads.matches("HTTP/1.1 200 OK").count(), 20, "{heads}");
        assert!(heads.contains("X-Server: a\r\n"), "{heads}");
        assert!(heads.contains("X-Server: b\r\n"), "{heads}");

        assert_eq!(curl(&fathom, &[], "/hello.txt").ok(), "hello\n");
        assert!(curl(&fathom, &[], "/big.txt").ok() == big());
        assert!(curl(&fathom, &["--compressed"], "/chunked").ok() == big());
        assert!(curl(&fathom, &["--http1.0"], "/big.txt").ok() == big());
        let part = curl(&fathom, &["-r", "2-3", "-w", "%{http_code}"], "/hello.txt");
        assert_eq!(part.ok(), "ll206");
        let head = curl(&fathom, &["-I"], "/big.txt").ok();
        assert!(head.contains(&format!("Content-Length: {}\r\n", big().len())));
        let code = ["-o", "/dev/null", "-w", "%{http_code}"];
        let status = |more: &[&str], path| curl(&fathom, &[&code, more].concat(), path).ok();
        assert_eq!(status(&[], "/absent"), "404");
        assert_eq!(status(&["-X", "DELETE"], "/hello.txt"), "405");
        let since = ["-z", "Fri, 01 Jan 2100 00:00:00 GMT"];
        assert_eq!(status(&since, "/hello.txt"), "304");
        let big_file = a.directory.path().join("big.txt");
        let upload = ["-T", big_file.to_str().unwrap()];
        assert_eq!(status(&upload, "/hello.txt"), "405");
        let chunked = [&upload[..], &["-H", "Transfer-Encoding: chunked"]].concat();
        assert_eq!(status(&chunked, "/hello.txt"), "405");
        let failures = fathom.metric("fathom_server_failures_total", &[("pool", "app")]);
        assert_eq!(failures, 0.0);
        fathom.stop();
    }
}
