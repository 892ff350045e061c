//! A WebSocket server and client of Python's `websockets`, through http depth.

use std::process::Command;

use fathom_testbed::need;

use super::drivers;
use super::program::Program;
use crate::support::{Ask, run};

const SERVER: &str = r#"
import asyncio, websockets.asyncio.server as server
async def echo(connection):
    async for message in connection:
        await connection.send(message)
async def main():
    async with server.serve(echo, "127.0.0.1", 0, max_size=None) as s:
        print(s.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()
asyncio.run(main())
"#;

const CLIENT: &str = r#"
import asyncio, sys, websockets.asyncio.client as client
async def main():
    async with client.connect(sys.argv[1], max_size=None, open_timeout=60, proxy=None) as ws:
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
    let Some(python) = need::python("websockets.asyncio.client") else {
        return;
    };
    let (_server, port) = Program::start_and_hear(Command::new(python).args(["-c", SERVER]));
    for io in drivers() {
        let fathom = io.start(
            r#"
            [listeners.web]
            bind = "127.0.0.1:{web}"
            depth = "http"
            pool = "app"
            [pools.app]
            servers = ["127.0.0.1:<port>"]
            "#,
            &[("port", &port)],
        );
        let url = format!("ws://{}/chat", fathom.address("web"));
        let said = run(Command::new(python).args(["-c", CLIENT, &url])).ok();
        assert_eq!(said.trim(), "ok");
        let upgraded = [("listener", "web"), ("class", "1xx")];
        assert_eq!(fathom.metric("fathom_http_responses_total", &upgraded), 1.0);
        fathom.stop();
    }
}
