//! From one configuration to the next while clients come and go.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fathom_testbed::client::{self, Connection};
use fathom_testbed::fathom::Fathom;
use fathom_testbed::http1::{Reply, Server};
use fathom_testbed::tcp::{self, Refusing};
use fathom_testbed::{Gate, udp, wait};
use rustix::process::Signal;

use crate::support::{Ask, Io, SetAtEnd};

on_both_drivers!(
    by_signal_and_by_command,
    a_bad_file_changes_nothing,
    listeners_come_and_go_beside_each_other,
    a_stream_ends_as_it_began,
    depth_changes_on_a_live_port,
    a_hundred_under_load,
    what_is_known_of_servers_survives,
    a_refused_port_keeps_the_old_configuration,
);

fn answers(io: Io, text: &str) -> String {
    io.config(
        r#"
        [listeners.web]
        bind = "127.0.0.1:{web}"
        depth = "http"
        [[listeners.web.routes]]
        respond = { status = 200, body = "<text>" }
        "#,
        &[("text", &text)],
    )
}

fn start(config: &str) -> Fathom {
    fathom_testbed::fathom::Builder::new(crate::support::BINARY).start(config)
}

fn by_signal_and_by_command(io: Io) {
    let mut fathom = start(&answers(io, "one"));
    let mut kept = Connection::open(fathom.address("web"));
    assert_eq!(kept.get("/").unwrap().text(), "one");
    fathom.write_config(&answers(io, "two"));
    fathom.signal(Signal::HUP);
    wait::until("the new configuration", || {
        client::get(fathom.address("web"), "/").text() == "two"
    });
    // A connection that was open before sees the change at its next request.
    wait::until("the worker of the kept connection", || {
        kept.get("/").unwrap().text() == "two"
    });
    fathom.write_config(&answers(io, "three"));
    fathom.command(&["reload"]).ok();
    assert_eq!(client::get(fathom.address("web"), "/").text(), "three");
    assert_eq!(kept.get("/").unwrap().text(), "three");
    let ok = [("result", "ok")];
    assert_eq!(fathom.metric("fathom_reloads_total", &ok), 2.0);
    fathom.stop();
}

fn a_bad_file_changes_nothing(io: Io) {
    let mut fathom = start(&answers(io, "good"));
    assert_eq!(fathom.metric("fathom_last_reload_successful", &[]), 1.0);
    fathom.write_config("[listeners.web]\nbind = \"127.0.0.1:{web}\"\ndepth = \"htpp\"\n");
    let stderr = fathom.command(&["reload"]).failed(1);
    for expected in ["fathom.toml:3:9", "htpp", "^^^", "did you mean `http`?"] {
        assert!(stderr.contains(expected), "{expected}\n{stderr}");
    }
    let serves = |fathom: &Fathom| client::get(fathom.address("web"), "/").text() == "good";
    assert!(serves(&fathom));
    let reloads = fathom.status()["reloads"].clone();
    assert_eq!(reloads["failed"], 1);
    assert!(reloads["last_error"].as_str().unwrap().contains("htpp"));
    assert_eq!(fathom.metric("fathom_last_reload_successful", &[]), 0.0);
    let status = fathom.command(&["status"]).ok();
    assert!(status.contains("the last reload was refused"), "{status}");

    fathom.signal(Signal::HUP);
    let failed = [("result", "failed")];
    wait::until("the signal to be counted", || {
        fathom.metric("fathom_reloads_total", &failed) == 2.0
    });
    assert!(serves(&fathom));
    assert!(fathom.stderr().contains("the old configuration goes on"));

    std::fs::remove_file(fathom.config_file()).unwrap();
    fathom.command(&["reload"]).failed(1);
    assert!(serves(&fathom));

    fathom.write_config(&answers(io, "better"));
    fathom.command(&["reload"]).ok();
    assert_eq!(client::get(fathom.address("web"), "/").text(), "better");
    assert_eq!(fathom.metric("fathom_last_reload_successful", &[]), 1.0);
    fathom.stop();
}

fn a_refused_port_keeps_the_old_configuration(io: Io) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut fathom = start(&answers(io, "good"));
    let more = format!(
        "{}\n[listeners.more]\nbind = \"{}\"\ndepth = \"http\"\nroutes = [{{ respond = {{ status = 200 }} }}]\n",
        answers(io, "new"),
        taken.local_addr().unwrap()
    );
    fathom.write_config(&more);
    let stderr = fathom.command(&["reload"]).failed(1);
    assert!(stderr.contains("another process has the port"), "{stderr}");
    assert_eq!(client::get(fathom.address("web"), "/").text(), "good");
    fathom.stop();
}

const STAYING: &str = r#"
    [listeners.web]
    bind = "127.0.0.1:{web}"
    depth = "http"
    pool = "app"
    [listeners.raw]
    bind = "127.0.0.1:{raw}"
    depth = "stream"
    pool = "echo"
    [listeners.datagrams]
    bind = "127.0.0.1:{datagrams}"
    protocol = "udp"
    depth = "stream"
    pool = "answer"
    [pools.app]
    servers = ["<a>"]
    [pools.echo]
    servers = ["<echo>"]
    [pools.answer]
    servers = ["<answer>"]
"#;

fn listeners_come_and_go_beside_each_other(io: Io) {
    let app = Server::named("app");
    let (echo, answer) = (tcp::Peer::echo(), udp::Peer::named("a"));
    let fills: [(&str, &dyn ToString); 3] = [
        ("a", &app.address()),
        ("echo", &echo.address()),
        ("answer", &answer.address()),
    ];
    let before = io.config(STAYING, &fills);
    let mut fathom = start(&before);
    let mut kept = Connection::open(fathom.address("web"));
    assert_eq!(kept.get("/").unwrap().text(), "app");
    let mut stream = connect(fathom.address("raw"));
    assert!(echoes(&mut stream));

    let more = format!(
        "{before}\n[listeners.more]\nbind = \"127.0.0.1:{{more}}\"\ndepth = \"stream\"\npool = \"echo\"\n\
         [listeners.moreweb]\nbind = \"127.0.0.1:{{moreweb}}\"\ndepth = \"http\"\npool = \"app\"\n"
    );
    fathom.write_config(&more);
    fathom.command(&["reload"]).ok();
    let mut on_new = connect(fathom.address("more"));
    assert!(echoes(&mut on_new));
    assert_eq!(client::get(fathom.address("moreweb"), "/").text(), "app");
    let mut kept_on_new = Connection::open(fathom.address("moreweb"));
    assert_eq!(kept_on_new.get("/").unwrap().text(), "app");

    fathom.write_config(&before);
    fathom.command(&["reload"]).ok();
    for gone in ["more", "moreweb"] {
        let address = fathom.address(gone);
        wait::until("the removed listener to refuse", || {
            TcpStream::connect(address).is_err()
        });
    }
    // What was open on the removed listeners ends by itself; an idle http connection is closed.
    assert!(echoes(&mut on_new));
    assert_eq!(kept_on_new.rest().unwrap_or_default(), b"");
    // What was open on the others has noticed nothing: the same connections.
    assert!(echoes(&mut stream));
    assert_eq!(kept.get("/").unwrap().text(), "app");
    assert_eq!(client::get(fathom.address("web"), "/").text(), "app");
    let client = udp::client(fathom.address("datagrams"));
    client
        .set_read_timeout(Some(std::time::Duration::from_secs(2)))
        .unwrap();
    wait::until("an answer", || {
        client.send(b"?").is_ok() && client.recv(&mut [0; 8]).is_ok()
    });
    drop((stream, on_new, kept));
    fathom.stop();
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(wait::DEADLINE)).unwrap();
    stream
}

fn echoes(stream: &mut TcpStream) -> bool {
    let mut back = [0; 4];
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut back).is_ok() && &back == b"ping"
}

/// Answers every byte with `name`.
fn answering(name: u8) -> tcp::Peer {
    tcp::Peer::script(move |mut stream, _| {
        while let Ok(1) = stream.read(&mut [0]) {
            if stream.write_all(&[name]).is_err() {
                return;
            }
        }
    })
}

fn asked(stream: &mut TcpStream) -> u8 {
    let mut answer = [0];
    stream.write_all(b"?").unwrap();
    stream.read_exact(&mut answer).unwrap();
    answer[0]
}

fn a_stream_ends_as_it_began(io: Io) {
    let (a, b) = (answering(b'a'), answering(b'b'));
    let config = |server: SocketAddr| {
        io.config(
            "[listeners.raw]\nbind = \"127.0.0.1:{raw}\"\ndepth = \"stream\"\npool = \"app\"\n\
             [pools.app]\nservers = [\"<a>\"]\n",
            &[("a", &server)],
        )
    };
    let mut fathom = start(&config(a.address()));
    let mut old = connect(fathom.address("raw"));
    assert_eq!(asked(&mut old), b'a');
    fathom.write_config(&config(b.address()));
    fathom.command(&["reload"]).ok();
    assert_eq!(asked(&mut connect(fathom.address("raw"))), b'b');
    assert_eq!(asked(&mut old), b'a');
    drop(old);
    wait::until("the old connection to end", || a.open() == 0);
    fathom.stop();
}

fn depth_changes_on_a_live_port(io: Io) {
    let server = Server::echo();
    let config = |depth: &str| {
        io.config(
            "[listeners.web]\nbind = \"127.0.0.1:{web}\"\ndepth = \"<depth>\"\npool = \"app\"\n\
             [pools.app]\nservers = [\"<a>\"]\n",
            &[("depth", &depth), ("a", &server.address())],
        )
    };
    let forwarded = |response: client::Response| {
        response
            .text()
            .to_ascii_lowercase()
            .contains("x-forwarded-for")
    };
    let mut fathom = start(&config("stream"));
    let mut begun_as_stream = Connection::open(fathom.address("web"));
    assert!(!forwarded(begun_as_stream.get("/").unwrap()));

    fathom.write_config(&config("http"));
    fathom.command(&["reload"]).ok();
    assert!(forwarded(client::get(fathom.address("web"), "/")));
    assert!(!forwarded(begun_as_stream.get("/").unwrap()));
    let mut begun_as_http = Connection::open(fathom.address("web"));
    assert!(forwarded(begun_as_http.get("/").unwrap()));

    fathom.write_config(&config("stream"));
    fathom.command(&["reload"]).ok();
    assert!(!forwarded(client::get(fathom.address("web"), "/")));
    assert!(!forwarded(begun_as_stream.get("/").unwrap()));
    // A request begins no more under the old depth; the connection was told to end.
    assert_eq!(begun_as_http.rest().unwrap_or_default(), b"");
    drop(begun_as_stream);
    fathom.stop();
}

fn a_hundred_under_load(io: Io) {
    let (a, b) = (Server::named("x"), Server::named("x"));
    let config = |turn: usize| {
        let servers = match turn % 3 {
            0 => format!("\"{}\", \"{}\"", a.address(), b.address()),
            1 => format!("\"{}\"", a.address()),
            _ => format!("{{ address = \"{}\", weight = 3 }}", b.address()),
        };
        let more = if turn % 2 == 1 {
            "[listeners.more]\nbind = \"127.0.0.1:{more}\"\ndepth = \"stream\"\npool = \"app\"\n"
        } else {
            ""
        };
        io.config(
            "[listeners.web]\nbind = \"127.0.0.1:{web}\"\ndepth = \"http\"\n\
             [[listeners.web.routes]]\nmatch = { path = \"/*\" }\npool = \"app\"\n\
             response_headers = { set = { X-Turn = \"<turn>\" } }\n\
             <more>[pools.app]\nservers = [<servers>]\n",
            &[("turn", &turn), ("more", &more), ("servers", &servers)],
        )
    };
    let mut fathom = start(&config(0));
    let web = fathom.address("web");
    let done = AtomicBool::new(false);
    let served = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let ended = SetAtEnd(&done);
        let kept = || {
            let mut connection = Connection::open(web);
            while !done.load(Ordering::Relaxed) {
                let response = connection.get("/").expect("a kept connection's request");
                assert_eq!((response.status, &*response.text()), (200, "x"));
                served.fetch_add(1, Ordering::Relaxed);
                if response.head.closes() {
                    connection = Connection::open(web);
                }
            }
        };
        let new = || {
            while !done.load(Ordering::Relaxed) {
                let response = client::get(web, "/");
                assert_eq!((response.status, &*response.text()), (200, "x"));
                served.fetch_add(1, Ordering::Relaxed);
            }
        };
        let clients = [
            scope.spawn(kept),
            scope.spawn(new),
            scope.spawn(kept),
            scope.spawn(new),
        ];
        for turn in 1..=100 {
            let before = served.load(Ordering::Relaxed);
            fathom.write_config(&config(turn));
            let (status, body) = fathom.reload();
            assert_eq!(status, 200, "{body}");
            // Each configuration serves someone, or the load never met it.
            wait::until("requests under this configuration", || {
                served.load(Ordering::Relaxed) >= before + 4
                    || clients.iter().any(|client| client.is_finished())
            });
        }
        drop(ended);
    });
    assert!(served.into_inner() >= 400);
    let ok = [("result", "ok")];
    assert_eq!(fathom.metric("fathom_reloads_total", &ok), 100.0);
    for class in ["4xx", "5xx"] {
        let failed = fathom.metric("fathom_http_responses_total", &[("class", class)]);
        assert_eq!(failed, 0.0);
    }
    assert_eq!(
        client::get(web, "/").header("x-turn"),
        Some("100"),
        "the last one is in force"
    );
    fathom.stop();
}

fn what_is_known_of_servers_survives(io: Io) {
    let gate = Gate::new();
    let server = Server::start({
        let gate = gate.clone();
        move |seen| match seen.path.as_str() {
            "/slow" => Reply::new().wait(&gate).send("HTTP/1.1 204 No\r\n\r\n"),
            _ => Reply::ok("up"),
        }
    });
    let dead = Refusing::new();
    let config = |weight: u32| {
        io.config(
            r#"
            [listeners.web]
            bind = "127.0.0.1:{web}"
            depth = "http"
            pool = "app"
            [pools.app]
            servers = [{ address = "<a>", name = "a", weight = <weight> }, { address = "<dead>", name = "dead" }]
            health = { tcp = true, interval = "200ms", timeout = "10s", fall = 1, rise = 1 }
            "#,
            &[
                ("a", &server.address()),
                ("dead", &dead.address()),
                ("weight", &weight),
            ],
        )
    };
    let mut fathom = start(&config(1));
    wait::until("the checks", || {
        fathom.server("app", "dead")["health"] == "down"
            && fathom.server("app", "a")["health"] == "up"
    });
    let mut slow = Connection::open(fathom.address("web"));
    slow.send("GET /slow HTTP/1.1\r\nHost: example.com\r\n\r\n")
        .unwrap();
    wait::until("the request at the server", || server.count() == 1);
    fathom.command(&["drain", "app/dead"]).ok();

    fathom.write_config(&config(5));
    fathom.command(&["reload"]).ok();
    let (a, dead_now) = (fathom.server("app", "a"), fathom.server("app", "dead"));
    assert_eq!(
        (&a["weight"], &a["in_flight"], &a["health"]),
        (&5.into(), &1.into(), &"up".into())
    );
    assert_eq!(
        (&dead_now["health"], &dead_now["draining"]),
        (&"down".into(), &true.into())
    );
    gate.open();
    assert_eq!(slow.receive().unwrap().status, 204);
    wait::until("nothing in flight", || {
        fathom.server("app", "a")["in_flight"] == 0
    });
    fathom.stop();
}
