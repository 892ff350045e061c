//! A WebSocket server and client of Python's `websockets`, through http depth.

use std::process::Command;

use fathom_testbed::certs::Authority;
use fathom_testbed::fathom::Builder;
use fathom_testbed::{need, wait};

use super::drivers;
use super::program::Program;
use crate::support::{Ask, BINARY, run};

const SERVER: &str = r#"
import asyncio, websockets
async def echo(connection):
    async for message in connection:
        await connection.send(message)
async def main():
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as s:
        print(s.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()
asyncio.run(main())
"#;

const CLIENT: &str = r#"
import asyncio, ssl, sys, websockets, websockets.version
async def main():
    secure = {}
    if int(websockets.version.version.split(".")[0]) >= 15:
        secure["proxy"] = None
    if sys.argv[1].startswith("wss:"):
        secure["ssl"] = ssl.create_default_context(cafile="authority.pem")
        secure["server_hostname"] = "a.test"
    async with websockets.connect(sys.argv[1], max_size=None, open_timeout=60, **secure) as ws:
        await ws.send("hello")
        assert await ws.recv() == "hello"
        big = bytes(range(256)) * 4096
        await ws.send(big)
        assert await ws.recv() == big
        for i in range(100):
            await ws.send(str(i))
        for i in range(100):
            assert await ws.recv() == str(i)
        await (await ws.ping())
    assert ws.close_code == 1000, ws.close_code
    print("ok")
asyncio.run(main())
"#;

#[test]
fn websockets_of_python() {
    let Some(python) = need::python("websockets") else {
        return;
    };
    let (_server, port) = Program::start_and_hear(Command::new(python).args(["-c", SERVER]));
    for io in drivers() {
        let builder = Builder::new(BINARY);
        let at = builder.directory();
        let authority = Authority::new();
        std::fs::write(at.join("authority.pem"), authority.pem()).unwrap();
        let _ = authority.issue(&["a.test"]).write(at, "a");
        let fathom = io.start_by(
            builder,
            r#"
            [listeners.web]
            bind = ["127.0.0.1:{web}", "127.0.0.1:{secure}"]
            depth = "http"
            pool = "app"
            [listeners.web.tls]
            bind = "127.0.0.1:{secure}"
            certificates = [{ cert = "a.pem", key = "a.key" }]
            [pools.app]
            servers = ["127.0.0.1:<port>"]
            "#,
            &[("port", &port)],
        );
        for (scheme, listener) in [("ws", "web"), ("wss", "secure")] {
            let url = format!("{scheme}://{}/chat", fathom.address(listener));
            let said = run(Command::new(python)
                .args(["-c", CLIENT, &url])
                .current_dir(fathom.directory()));
            assert_eq!(said.ok().trim(), "ok");
        }
        let upgraded = [("listener", "web"), ("class", "1xx")];
        wait::until("both to be counted", || {
            fathom.metric("fathom_http_responses_total", &upgraded) == 2.0
        });
        fathom.stop();
    }
}
