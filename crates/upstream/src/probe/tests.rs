//! Every probe against scripted servers: good, bad, slow, garbage, endless, silent.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::time::Duration;

use fathom_core::EndpointAddress;
use fathom_core::plan::{
    CertificatePlan, HttpProbePlan, JsonExpect, JsonStep, ProbePlan, ProxyVersion, Regex,
    ServerProtocol, TlsClientPlan, TlsListenerPlan, TlsProtocol, TlsVersion,
};
use fathom_testbed::certs::Authority;
use fathom_testbed::tcp::{Peer, Refusing};
use fathom_testbed::wait;
use fathom_tls::{Acceptor, Connector};

use super::{Failure, Stage, Target, make};

fn target(address: impl Into<EndpointAddress>) -> Target {
    Target {
        address: address.into(),
        host: None,
        pool: "pool".into(),
        server: "server".into(),
        tls: None,
        proxy: None,
        http2: false,
        stage: Stage::default(),
    }
}

/// Checks once, with far more time than any answer needs.
async fn check_target(plan: &ProbePlan, target: &Target) -> Result<(), String> {
    tokio::time::timeout(wait::DEADLINE, make(plan).check(target))
        .await
        .expect("the check ends by itself")
        .map_err(|failure| failure.to_string())
}

async fn check(plan: &ProbePlan, address: SocketAddr) -> Result<(), String> {
    check_target(plan, &target(address)).await
}

fn regex(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

fn http(edit: impl FnOnce(&mut HttpProbePlan)) -> ProbePlan {
    let mut plan = HttpProbePlan {
        path: "/health?x=1".into(),
        method: "GET".into(),
        host: None,
        headers: Vec::new(),
        expect_status: vec![(200, 399)],
        expect_body: None,
        expect_json: None,
    };
    edit(&mut plan);
    ProbePlan::Http(plan)
}

fn postgres() -> ProbePlan {
    ProbePlan::Postgres {
        parameters: vec![
            ("user".into(), "monitor".into()),
            ("dbname".into(), "app".into()),
        ],
    }
}

fn redis() -> ProbePlan {
    ProbePlan::Redis {
        command: "PING".into(),
    }
}

fn send_expect(send: &str, expect: &str) -> ProbePlan {
    ProbePlan::SendExpect {
        send: send.into(),
        expect: regex(expect),
    }
}

/// One of each kind; those that talk over the connection come last.
fn all_kinds() -> Vec<ProbePlan> {
    vec![
        ProbePlan::Tcp,
        ProbePlan::Command {
            argv: vec!["/bin/true".into()],
        },
        ProbePlan::Tls,
        http(|_| {}),
        ProbePlan::Grpc {
            service: String::new(),
        },
        postgres(),
        redis(),
        ProbePlan::Smtp,
        send_expect("hello", "world"),
    ]
}

/// Answers each connection with `answer` once something was sent (if `greeted`: at once), and waits for its end.
fn answering(greets: bool, answer: &[u8]) -> Peer {
    let answer = answer.to_vec();
    Peer::script(move |mut stream, _| {
        if greets || stream.read(&mut [0; 4096]).is_ok() {
            let _ = stream.write_all(&answer);
            drain(&mut stream);
        }
    })
}

fn drain(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    while matches!(stream.read(&mut buffer), Ok(1..)) {}
}

#[test]
fn the_table_has_every_kind() {
    for plan in all_kinds() {
        let _ = make(&plan);
    }
}

#[tokio::test]
async fn nobody_listening_is_refused_in_plain_words() {
    let refusing = Refusing::new();
    for plan in all_kinds()
        .iter()
        .filter(|plan| !matches!(plan, ProbePlan::Command { .. }))
    {
        assert_eq!(
            check(plan, refusing.address()).await,
            Err("connect refused".into()),
            "{plan:?}"
        );
    }
}

#[tokio::test]
async fn an_open_port_is_enough_for_tcp() {
    assert_eq!(check(&ProbePlan::Tcp, Peer::sink().address()).await, Ok(()));
}

#[tokio::test]
async fn a_missing_socket_file_is_named_as_such() {
    let target = target(EndpointAddress::Unix("/nonexistent/app.sock".into()));
    assert_eq!(
        check_target(&ProbePlan::Tcp, &target).await,
        Err("connect: no such file".into())
    );
}

#[tokio::test]
async fn garbage_silence_and_endless_answers_fail_every_protocol() {
    let garbage = answering(true, b"\xff\xfe\x00\x01garbage\x80\x81\r\n\r\n\x16\x03");
    let closing = Peer::source("");
    let resetting = Peer::resetting();
    let endless = Peer::script(|mut stream, _| while stream.write_all(&[b'x'; 4096]).is_ok() {});
    for plan in &all_kinds()[2..] {
        for (what, peer) in [
            ("garbage", &garbage),
            ("closing", &closing),
            ("reset", &resetting),
            ("endless", &endless),
        ] {
            let verdict = match (what, plan) {
                // What does not match yet may still match: only time ends this one.
                ("garbage", ProbePlan::SendExpect { .. }) => continue,
                _ => check(plan, peer.address()).await,
            };
            let why = verdict.expect_err(&format!("{what}: {plan:?}"));
            assert!(
                !why.is_empty() && !why.contains(char::is_control),
                "{why:?}"
            );
        }
    }
}

#[tokio::test]
async fn http_answers() {
    let body = http(|p| p.expect_body = Some(regex("^ready$")));
    let json = http(|p| {
        p.expect_json = Some(JsonExpect {
            path: vec![JsonStep::Key("status".into())],
            equals: "\"ok\"".into(),
        });
    });
    let status = |ranges: &[(u16, u16)]| http(|p| p.expect_status = ranges.to_vec());
    for (plan, answer, wanted) in [
        (http(|_| {}), "HTTP/1.1 200 OK\r\n\r\n", Ok(())),
        (http(|_| {}), "HTTP/1.0 302 Found\r\n\r\n", Ok(())),
        (
            http(|_| {}),
            "HTTP/1.1 500 No\r\nContent-Length: 99\r\n\r\n",
            Err("status 500, wanted 200-399"),
        ),
        (
            status(&[(200, 200), (401, 403)]),
            "HTTP/1.1 204 No Content\r\n\r\n",
            Err("status 204, wanted 200, 401-403"),
        ),
        (
            http(|_| {}),
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            Ok(()),
        ),
        (
            body.clone(),
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready",
            Ok(()),
        ),
        (
            body.clone(),
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nunwell",
            Err("status 200, body does not match \"^ready$\""),
        ),
        (
            body.clone(),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nre\r\n3;x=y\r\nady\r\n0\r\n\r\n",
            Ok(()),
        ),
        (
            body.clone(),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            Err("chunk size: zz"),
        ),
        (
            body,
            "HTTP/1.1 204 No Content\r\n\r\n",
            Err("status 204, body does not match \"^ready$\""),
        ),
        (
            json.clone(),
            "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}",
            Ok(()),
        ),
        (
            json,
            "HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"status\":\"down\"}",
            Err("$.status is \"down\", wanted \"ok\""),
        ),
        (
            http(|_| {}),
            "SSH-2.0-OpenSSH_9.2\r\n",
            Err("not an HTTP answer: SSH-2.0-OpenSSH_9.2"),
        ),
    ] {
        let peer = answering(false, answer.as_bytes());
        assert_eq!(
            check(&plan, peer.address()).await,
            wanted.map_err(str::to_owned),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn an_http_body_may_end_with_the_connection_and_come_byte_by_byte() {
    let plan = http(|p| p.expect_body = Some(regex("^ready$")));
    let peer = Peer::script(|mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        for byte in b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nready" {
            let _ = stream.write_all(&[*byte]);
        }
    });
    assert_eq!(check(&plan, peer.address()).await, Ok(()));
    let short = Peer::script(|mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nready");
    });
    assert_eq!(
        check(&plan, short.address()).await,
        Err("closed in the middle of the answer".into())
    );
}

/// What a server receives before it answers.
async fn request_of(plan: &ProbePlan, edit: impl FnOnce(&mut Target)) -> String {
    let (sender, receiver) = mpsc::channel();
    let peer = Peer::script(move |mut stream, _| {
        let mut buffer = [0; 4096];
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer) {
                Ok(n @ 1..) => seen.extend_from_slice(&buffer[..n]),
                _ => break,
            }
        }
        let _ = sender.send(seen);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    });
    let mut target = target(peer.address());
    edit(&mut target);
    assert_eq!(check_target(plan, &target).await, Ok(()));
    let port = peer.address().port().to_string();
    String::from_utf8(receiver.recv().unwrap())
        .unwrap()
        .replace(&port, "PORT")
}

#[tokio::test]
async fn http_requests_say_what_the_plan_says() {
    let agent = concat!(
        "User-Agent: fathom/",
        env!("CARGO_PKG_VERSION"),
        " (health check)\r\n"
    );
    assert_eq!(
        request_of(&http(|_| {}), |_| {}).await,
        format!(
            "GET /health?x=1 HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n{agent}Connection: close\r\n\r\n"
        )
    );
    let plan = http(|p| {
        p.method = "HEAD".into();
        p.host = Some("app.example".into());
        p.headers = vec![
            ("X-Check".into(), "yes".into()),
            ("user-agent".into(), "me".into()),
        ];
    });
    assert_eq!(
        request_of(&plan, |target| target.proxy = Some(ProxyVersion::V1)).await,
        "PROXY UNKNOWN\r\nHEAD /health?x=1 HTTP/1.1\r\nHost: app.example\r\nX-Check: yes\r\nuser-agent: me\r\nConnection: close\r\n\r\n"
    );
    let plan = http(|_| {});
    let named = request_of(&plan, |target| {
        target.host = Some("db.example".into());
        target.proxy = Some(ProxyVersion::V2);
    });
    let named = named.await;
    let rest = named
        .strip_prefix("\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")
        .expect("a PROXY v2 LOCAL header");
    assert!(rest.contains("\r\nHost: db.example:PORT\r\n"), "{rest}");
}

#[tokio::test]
async fn redis_answers() {
    let role = ProbePlan::Redis {
        command: "ROLE".into(),
    };
    for (plan, answer, wanted) in [
        (redis(), "+PONG\r\n", Ok(())),
        (
            redis(),
            "-LOADING Redis is loading the dataset in memory\r\n",
            Err("redis: LOADING Redis is loading the dataset in memory"),
        ),
        (
            redis(),
            "-NOAUTH Authentication required.\r\n",
            Err("redis: NOAUTH Authentication required."),
        ),
        (redis(), ":1\r\n", Err("not a redis answer: :1")),
        (role, "*3\r\n$6\r\nmaster\r\n", Ok(())),
    ] {
        assert_eq!(
            check(&plan, answering(false, answer.as_bytes()).address()).await,
            wanted.map_err(str::to_owned),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn postgres_answers() {
    let message = |kind: u8, body: &[u8]| {
        let mut message = vec![kind];
        message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        message.extend_from_slice(body);
        message
    };
    let error = |code: &str, text: &str| {
        message(
            b'E',
            format!("SFATAL\0VFATAL\0C{code}\0M{text}\0\0").as_bytes(),
        )
    };
    let let_in = [
        message(b'R', &[0; 4]),
        message(b'S', b"server_version\x0015\0"),
        message(b'Z', b"I"),
    ]
    .concat();
    let full = [
        message(b'R', &[0; 4]),
        error("53300", "too many connections for role"),
    ]
    .concat();
    for (answer, wanted) in [
        (message(b'R', &[0, 0, 0, 10, b'S']), Ok(())),
        (let_in, Ok(())),
        (error("28P01", "password authentication failed"), Ok(())),
        (error("3D000", "database \"app\" does not exist"), Ok(())),
        (
            error("57P03", "the database system is starting up"),
            Err("postgres 57P03: the database system is starting up"),
        ),
        (
            error("53300", "sorry, too many clients already"),
            Err("postgres 53300: sorry, too many clients already"),
        ),
        (full, Err("postgres 53300: too many connections for role")),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            Err("not a postgres answer: HTTP/"),
        ),
    ] {
        assert_eq!(
            check(&postgres(), answering(false, &answer).address()).await,
            wanted.map_err(str::to_owned)
        );
    }
}

#[tokio::test]
async fn smtp_answers() {
    let (sender, receiver) = mpsc::channel();
    let good = Peer::script(move |mut stream, _| {
        let _ = stream.write_all(b"220-mail.example\r\n220 ESMTP\r\n");
        let mut said = String::new();
        let mut buffer = [0; 512];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            said += std::str::from_utf8(&buffer[..n]).unwrap();
            if said == "EHLO localhost\r\n" {
                let _ = stream.write_all(b"250-mail.example\r\n250-SIZE 1000\r\n250 OK\r\n");
            }
        }
        let _ = sender.send(said);
    });
    assert_eq!(check(&ProbePlan::Smtp, good.address()).await, Ok(()));
    assert_eq!(receiver.recv().unwrap(), "EHLO localhost\r\nQUIT\r\n");
    for (answer, wanted) in [
        ("421 too busy\r\n", "smtp greeting: 421 too busy"),
        ("220 hi\r\n502 what?\r\n", "smtp EHLO: 502 what?"),
        ("SSH-2.0\r\n", "smtp greeting: SSH-2.0"),
    ] {
        assert_eq!(
            check(
                &ProbePlan::Smtp,
                answering(true, answer.as_bytes()).address()
            )
            .await,
            Err(wanted.into())
        );
    }
}

#[tokio::test]
async fn send_expect_answers() {
    let plan = send_expect("PING\r\n", "^\\+PONG");
    assert_eq!(
        check(&plan, answering(false, b"+PONG\r\n").address()).await,
        Ok(())
    );
    let wrong = Peer::script(|mut stream, _| {
        let _ = stream.read(&mut [0; 64]);
        let _ = stream.write_all(b"-ERR\x1b[2J\r\n");
    });
    assert_eq!(
        check(&plan, wrong.address()).await,
        Err("does not match \"^\\\\+PONG\": -ERR\\x1b[2J".into())
    );
    assert_eq!(
        check(
            &send_expect("", "^220 "),
            answering(true, b"220 ready\r\n").address()
        )
        .await,
        Ok(())
    );
}

#[tokio::test]
async fn unix_sockets_are_asked_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 64]);
        let _ = stream.write_all(b"+PONG\r\n");
    });
    assert_eq!(check_target(&redis(), &target(path)).await, Ok(()));
    server.join().unwrap();
}

fn command(script: &str) -> ProbePlan {
    ProbePlan::Command {
        argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
    }
}

#[tokio::test]
async fn commands_say_it_by_their_exit() {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 4711));
    let environment = r#"[ "$FATHOM_SERVER_ADDRESS:$FATHOM_SERVER_PORT $FATHOM_POOL/$FATHOM_SERVER" = "127.0.0.1:4711 pool/server" ]"#;
    assert_eq!(check(&command(environment), address).await, Ok(()));
    assert_eq!(
        check(&command("echo it is down >&2; exit 3"), address).await,
        Err("exit status: 3: it is down".into())
    );
    assert_eq!(
        check(&command("exit 1"), address).await,
        Err("exit status: 1".into())
    );
    // More than a pipe holds: it must not hang.
    let loud = check(
        &command("head -c 200000 /dev/zero | tr '\\0' e >&2; exit 2"),
        address,
    )
    .await
    .unwrap_err();
    assert!(loud.starts_with("exit status: 2: eeee"), "{loud}");
    let missing = ProbePlan::Command {
        argv: vec!["/nonexistent/check".into()],
    };
    assert_eq!(
        check(&missing, address).await,
        Err("/nonexistent/check: no such file".into())
    );
}

#[tokio::test]
async fn an_abandoned_command_takes_what_it_started_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let plan = command(&format!(
        "sleep 1000 & echo $! > {p}.new; mv {p}.new {p}; wait",
        p = pid_file.display()
    ));
    let target = target(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    let probe = make(&plan);
    let mut check = probe.check(&target);
    let grandchild = loop {
        tokio::select! {
            verdict = &mut check => panic!("ended by itself: {verdict:?}"),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        if let Ok(pid) = std::fs::read_to_string(&pid_file) {
            break pid.trim().to_owned();
        }
    };
    drop(check);
    let stat = format!("/proc/{grandchild}/stat");
    let gone = move || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
    tokio::task::spawn_blocking(move || wait::until("the grandchild ends", gone))
        .await
        .unwrap();
}

/// A TLS server that answers each request with `answer`; returns where it listens and the authority's file.
async fn tls_server(
    dir: &std::path::Path,
    name: &str,
    answer: &'static [u8],
) -> (SocketAddr, std::path::PathBuf) {
    let authority = Authority::new();
    let (cert, key) = authority.issue(&[name]).write(dir, "server");
    let ca = dir.join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let plan = TlsListenerPlan {
        certificates: vec![CertificatePlan {
            cert,
            key,
            ocsp: None,
        }],
        min_version: TlsVersion::V1_2,
        protocols: vec![TlsProtocol::H2, TlsProtocol::Http1],
        client_auth: None,
        ticket_keys: None,
        handshake_rate: None,
        redirect_http: false,
    };
    let acceptor = Acceptor::new(&plan, None).unwrap();
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let (stream, _) = listener.accept().await.unwrap();
            let Ok((mut stream, _)) = acceptor.accept(stream, bytes::Bytes::new()).await else {
                continue;
            };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    (address, ca)
}

fn pool_tls(ca: std::path::PathBuf, server_name: &str) -> Option<Result<Connector, String>> {
    let plan = TlsClientPlan {
        server_name: Some(server_name.into()),
        ca: Some(ca),
        client: None,
        verify: true,
    };
    Some(Ok(Connector::new(&plan, ServerProtocol::Http1).unwrap()))
}

#[tokio::test]
async fn tls_handshakes() {
    let dir = tempfile::tempdir().unwrap();
    let (address, ca) = tls_server(dir.path(), "app.example", b"HTTP/1.1 200 OK\r\n\r\n").await;
    // Without TLS of the pool's own, any certificate will do.
    assert_eq!(check(&ProbePlan::Tls, address).await, Ok(()));
    let right = Target {
        tls: pool_tls(ca.clone(), "app.example"),
        ..target(address)
    };
    assert_eq!(check_target(&ProbePlan::Tls, &right).await, Ok(()));
    assert_eq!(check_target(&http(|_| {}), &right).await, Ok(()));
    let wrong = Target {
        tls: pool_tls(ca, "other.example"),
        ..target(address)
    };
    let why = check_target(&ProbePlan::Tls, &wrong).await.unwrap_err();
    assert!(why.starts_with("tls: certificate refused"), "{why}");
    let broken = Target {
        tls: Some(Err("ca.pem: no such file".into())),
        ..target(address)
    };
    assert_eq!(
        check_target(&http(|_| {}), &broken).await,
        Err("tls: ca.pem: no such file".into())
    );
}

/// An HTTP/2 server on cleartext: checks the request, answers with status, body and trailers.
async fn h2_server(
    status: u16,
    body: &'static [u8],
    trailers: &'static [(&'static str, &'static str)],
) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut connection) = h2::server::handshake(stream).await else {
                continue;
            };
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                if request.uri().path().starts_with("/grpc.") {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    assert_eq!(request.headers()["content-type"], "application/grpc");
                    assert_eq!(request.headers()["te"], "trailers");
                }
                let response = ::http::Response::builder().status(status).body(()).unwrap();
                let mut stream = respond
                    .send_response(response, body.is_empty() && trailers.is_empty())
                    .unwrap();
                if !body.is_empty() {
                    stream
                        .send_data(bytes::Bytes::from_static(body), trailers.is_empty())
                        .unwrap();
                }
                if !trailers.is_empty() {
                    let fields = trailers
                        .iter()
                        .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()));
                    stream.send_trailers(fields.collect()).unwrap();
                }
            }
        }
    });
    address
}

#[tokio::test]
async fn grpc_answers() {
    const OK: &[(&str, &str)] = &[("grpc-status", "0")];
    const UNIMPLEMENTED: &[(&str, &str)] = &[("grpc-status", "12")];
    const UNAVAILABLE: &[(&str, &str)] = &[("grpc-status", "14"), ("grpc-message", "going away")];
    let plan = ProbePlan::Grpc {
        service: "app.Service".into(),
    };
    for (status, body, trailers, wanted) in [
        (200, &b"\0\0\0\0\x02\x08\x01"[..], OK, Ok(())),
        (200, b"\0\0\0\0\x02\x08\x02", OK, Err("grpc: NOT_SERVING")),
        (200, b"\0\0\0\0\0", OK, Err("grpc: UNKNOWN")),
        (
            200,
            b"",
            UNIMPLEMENTED,
            Err("grpc: the server has no health service (status 12)"),
        ),
        (200, b"", UNAVAILABLE, Err("grpc: status 14 going away")),
        (
            200,
            b"\0\0\0\0\x02\x08\x01",
            &[],
            Err("grpc: the answer has no grpc-status"),
        ),
        (503, b"", &[], Err("http status 503, wanted 200")),
    ] {
        let address = h2_server(status, body, trailers).await;
        assert_eq!(
            check(&plan, address).await,
            wanted.map_err(str::to_owned),
            "{status} {body:?}"
        );
    }
}

#[tokio::test]
async fn http_checks_speak_http2_where_the_pool_does() {
    let plan = http(|p| p.expect_body = Some(regex("^ready$")));
    let good = Target {
        http2: true,
        ..target(h2_server(200, b"ready", &[]).await)
    };
    assert_eq!(check_target(&plan, &good).await, Ok(()));
    let bad = Target {
        http2: true,
        ..target(h2_server(404, b"", &[]).await)
    };
    assert_eq!(
        check_target(&plan, &bad).await,
        Err("status 404, wanted 200-399".into())
    );
}

#[test]
fn a_shortage_of_the_machine_is_not_the_servers_fault() {
    for errno in [24, 23, 12, 105, 99, 11] {
        assert!(
            Failure::io("connect", &std::io::Error::from_raw_os_error(errno)).is_of_machine(),
            "{errno}"
        );
    }
    for errno in [111, 104, 113, 101, 110] {
        assert!(
            !Failure::io("connect", &std::io::Error::from_raw_os_error(errno)).is_of_machine(),
            "{errno}"
        );
    }
}
