//! A gRPC server and client of Python's `grpcio`: all kinds of calls, statuses, health.

use std::process::Command;

use fathom_testbed::certs::Authority;
use fathom_testbed::fathom::Builder;
use fathom_testbed::tcp::Refusing;
use fathom_testbed::{need, wait};

use super::drivers;
use super::program::Program;
use crate::support::{Ask, BINARY, run};

const SERVER: &str = r#"
import grpc, time
from concurrent.futures import ThreadPoolExecutor
def unary(request, context):
    if request == b"fail":
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "as asked")
    if request == b"slow":
        time.sleep(2)
    context.set_trailing_metadata((("x-trailer", "t"),))
    return b"u:" + request
def answers(request, context):
    for i in range(5):
        yield b"%d" % i
def collect(requests, context):
    return b"".join(requests)
def both(requests, context):
    for request in requests:
        yield b"e:" + request
def health(request, context):
    return b"\x08\x01"  # HealthCheckResponse { status: SERVING }
METHODS = {
    "/test.S/Unary": grpc.unary_unary_rpc_method_handler(unary),
    "/test.S/Answers": grpc.unary_stream_rpc_method_handler(answers),
    "/test.S/Collect": grpc.stream_unary_rpc_method_handler(collect),
    "/test.S/Both": grpc.stream_stream_rpc_method_handler(both),
    "/grpc.health.v1.Health/Check": grpc.unary_unary_rpc_method_handler(health),
}
class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return METHODS.get(details.method)
server = grpc.server(ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((Handler(),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination()
"#;

const CLIENT: &str = r#"
import grpc, sys, queue
target, authority = sys.argv[1], sys.argv[2]
options = [("grpc.enable_http_proxy", 0)]
if authority:
    credentials = grpc.ssl_channel_credentials(open(authority, "rb").read())
    options.append(("grpc.ssl_target_name_override", "a.test"))
    channel = grpc.secure_channel(target, credentials, options=options)
else:
    channel = grpc.insecure_channel(target, options=options)
unary = channel.unary_unary("/test.S/Unary")
answer, call = unary.with_call(b"hello", timeout=60)
assert answer == b"u:hello", answer
assert ("x-trailer", "t") in [tuple(x) for x in call.trailing_metadata()], call.trailing_metadata()
big = bytes(1000000)
assert unary(big, timeout=60) == b"u:" + big
def status(method, request, timeout=60):
    try:
        channel.unary_unary(method)(request, timeout=timeout)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""
assert status("/test.S/Unary", b"fail") == ("INVALID_ARGUMENT", "as asked")
assert status("/test.S/Absent", b"")[0] == "UNIMPLEMENTED"
assert status("/test.S/Unary", b"slow", 0.5)[0] == "DEADLINE_EXCEEDED"
assert status("/dead.S/Unary", b"")[0] == "UNAVAILABLE", status("/dead.S/Unary", b"")
assert status("/nowhere.S/Unary", b"")[0] == "UNIMPLEMENTED", status("/nowhere.S/Unary", b"")
assert list(channel.unary_stream("/test.S/Answers")(b"", timeout=60)) == [b"0", b"1", b"2", b"3", b"4"]
assert channel.stream_unary("/test.S/Collect")(iter([b"a", b"b", b"c"]), timeout=60) == b"abc"
# Both ways at once: each message is answered before the next is sent.
sent = queue.Queue()
answers = channel.stream_stream("/test.S/Both")(iter(sent.get, None), timeout=60)
for message in [b"1", b"2", b"3"]:
    sent.put(message)
    assert next(answers) == b"e:" + message
sent.put(None)
assert list(answers) == []
channel.close()
print("ok")
"#;

#[test]
fn grpc_of_python() {
    let Some(python) = need::python("grpc") else {
        return;
    };
    let (_server, port) = Program::start_and_hear(Command::new(python).args(["-c", SERVER]));
    let dead = Refusing::new();
    let authority = Authority::new();
    for io in drivers() {
        let builder = Builder::new(BINARY);
        let at = builder.directory();
        std::fs::write(at.join("authority.pem"), authority.pem()).unwrap();
        let _ = authority.issue(&["a.test"]).write(at, "a");
        let fathom = io.start_by(
            builder,
            r#"
            [listeners.clear]
            bind = "127.0.0.1:{clear}"
            depth = "http"
            protocols = ["h2c"]
            routes = [
              { match = { path = "/test.S/*" }, pool = "calls" },
              { match = { path = "/dead.S/*" }, pool = "dead" },
            ]
            [listeners.web]
            bind = "127.0.0.1:{web}"
            depth = "http"
            routes = [
              { match = { path = "/test.S/*" }, pool = "calls" },
              { match = { path = "/dead.S/*" }, pool = "dead" },
            ]
            [listeners.web.tls]
            certificates = [{ cert = "a.pem", key = "a.key" }]
            [pools.calls]
            protocol = "grpc"
            servers = [{ address = "127.0.0.1:<port>", name = "up" }]
            health = { grpc = "test.S", interval = "300ms", timeout = "10s", rise = 1 }
            [pools.dead]
            protocol = "grpc"
            servers = ["<dead>"]
            "#,
            &[("port", &port), ("dead", &dead.address())],
        );
        wait::until("the check to speak with the server", || {
            fathom.server("calls", "up")["health"] == "up"
        });
        for (listener, authority) in [("clear", ""), ("web", "authority.pem")] {
            let target = fathom.address(listener).to_string();
            let said = run(Command::new(python)
                .args(["-c", CLIENT, &target, authority])
                .current_dir(fathom.directory()));
            assert_eq!(said.ok().trim(), "ok", "{listener}");
        }
        let log = |part: &str| fathom.stdout().lines().any(|line| line.contains(part));
        wait::until("the status in the access log", || {
            log("\"grpc_status\":3") && log("\"grpc_status\":0")
        });
        fathom.stop();
    }
}
