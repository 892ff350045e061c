//! Running a case: its contenders side by side, one after the other, round after round.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fathom_testbed::certs::Authority;
use tempfile::TempDir;

use crate::case::{Case, Figure, Load, Says};
use crate::engine::{Done, Engine, Talk};
use crate::h2load::Shape;
use crate::peer::{self, Balancer, Certificate, Door, Kind, Setting};
use crate::process::{self, Cores};
use crate::{grpc, h2load};

/// What the whole run has in common.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) fathom: Option<PathBuf>,
    pub(crate) rounds: usize,
    /// Of one measurement.
    pub(crate) time: Duration,
    /// Only these; empty = all.
    pub(crate) only: Vec<Kind>,
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// What is compared: nanoseconds or bytes, by the case's [`Figure`].
    pub(crate) figure: f64,
    pub(crate) per_second: f64,
    /// Share of its core that the balancer used.
    pub(crate) busy: f64,
    /// Latency in nanoseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) failed: u64,
}

/// All measurements of one contender, one per round.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) kind: Kind,
    pub(crate) samples: Result<Vec<Sample>, String>,
}

/// A case's outcome.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) case: &'static Case,
    pub(crate) series: Vec<Series>,
}

/// Runs one case.
pub(crate) fn run(case: &'static Case, options: &Options, cores: Cores) -> Result<Outcome, String> {
    let directory = tempfile::Builder::new()
        .prefix("fathom-bench-")
        .tempdir()
        .map_err(|e| e.to_string())?;
    // nginx's worker gives up root and still has to reach its files.
    open_to_all(&directory)?;
    let certificate = certificate(&directory)?;
    let mut engine = Engine::new().map_err(|e| e.to_string())?;
    let servers = servers(&mut engine, case.door).map_err(|e| format!("servers: {e}"))?;

    let mut series = Vec::new();
    for kind in case
        .contenders
        .iter()
        .filter(|k| options.only.is_empty() || options.only.contains(k))
    {
        let own = directory.path().join(kind.name());
        std::fs::create_dir(&own).map_err(|e| e.to_string())?;
        let setting = Setting {
            door: case.door,
            servers: &servers,
            directory: &own,
            fathom: options.fathom.as_deref(),
            cores,
            certificate: &certificate,
        };
        series.push((*kind, peer::start(*kind, &setting), Vec::new()));
    }
    // Memory is looked at once: a second look would find what the first has left.
    let rounds = if case.figure == Figure::Memory {
        1
    } else {
        options.rounds
    };
    for _ in 0..rounds {
        for (_, balancer, samples) in &mut series {
            let Ok(running) = balancer else { continue };
            match measure(case, options, &mut engine, running) {
                Ok(sample) => samples.push(sample),
                Err(why) => *balancer = Err(why),
            }
        }
    }
    let series = series
        .into_iter()
        .map(|(kind, balancer, samples)| Series {
            kind,
            samples: balancer.map(|_| samples),
        })
        .collect();
    Ok(Outcome { case, series })
}

fn servers(engine: &mut Engine, door: Door) -> io::Result<Vec<SocketAddr>> {
    (0..2)
        .map(|_| match door {
            Door::Udp => engine.serve_udp(),
            Door::Grpc => grpc::serve(),
            _ => engine.serve_tcp(),
        })
        .collect()
}

fn measure(
    case: &Case,
    options: &Options,
    engine: &mut Engine,
    balancer: &Balancer,
) -> Result<Sample, String> {
    let outcome = match case.load {
        Load::Idle { connections } => {
            let talk = Says::Get("/128").talk(case.door);
            memory(
                engine,
                balancer,
                connections.min(process::most_clients()),
                &talk,
            )
        }
        Load::Http2(shape) => http2(case, shape, options, engine, balancer),
        _ => cpu(case, options, engine, balancer),
    };
    engine.drop_clients();
    let settled = engine.settle();
    let sample = outcome.map_err(|e| e.to_string())?;
    settled.map_err(|e| e.to_string())?;
    Ok(sample)
}

fn cpu(
    case: &Case,
    options: &Options,
    engine: &mut Engine,
    balancer: &Balancer,
) -> io::Result<Sample> {
    let mut pace = None;
    let mut resumes = false;
    match case.load {
        Load::Clients {
            clients,
            says,
            pace: rate,
            idle,
        } => {
            pace = rate;
            let talk = says.talk(case.door);
            resumes = matches!(says, Says::GetAndCloseResumed(_));
            engine.add_idle(idle, balancer.address, &talk)?;
            engine.add_clients(clients, balancer.address, &talk)?;
        }
        Load::Datagrams { clients } => engine.add_udp_clients(clients, balancer.address)?,
        Load::Idle { .. } | Load::Http2(_) => {}
    }
    engine.run(options.time / 4, pace)?;
    let before = balancer.process.cpu();
    let done = engine.run(options.time, pace)?;
    let used = balancer.process.cpu().saturating_sub(before);
    let nothing = if case.figure == Figure::CpuPerGigabyte {
        done.bytes == 0
    } else {
        done.count == 0
    };
    if nothing {
        return Err(io::Error::other(format!(
            "nothing came through ({} failures)",
            done.failed
        )));
    }
    if resumes && done.resumed * 10 < done.count * 9 {
        let what = format!(
            "only {} of {} handshakes were resumed",
            done.resumed, done.count
        );
        return Err(io::Error::other(what));
    }
    Ok(sample(case.figure, &done, used))
}

fn sample(figure: Figure, done: &Done, used: Duration) -> Sample {
    let nanoseconds = used.as_nanos() as f64;
    let seconds = done.elapsed.as_secs_f64();
    let p50 = done.latency.value_at_quantile(0.5) as f64;
    Sample {
        figure: match figure {
            Figure::CpuPerRequest => nanoseconds / done.count as f64,
            Figure::CpuPerGigabyte => nanoseconds / (done.bytes as f64 / 1e9),
            Figure::Latency => p50,
            Figure::Memory => 0.0,
        },
        per_second: match figure {
            Figure::CpuPerGigabyte => done.bytes as f64 / seconds / 1e9,
            _ => done.count as f64 / seconds,
        },
        busy: used.as_secs_f64() / seconds,
        p50,
        p99: done.latency.value_at_quantile(0.99) as f64,
        failed: done.failed,
    }
}

/// Load from another program; the servers run on a thread meanwhile.
fn http2(
    case: &Case,
    shape: Shape,
    options: &Options,
    engine: &mut Engine,
    balancer: &Balancer,
) -> io::Result<Sample> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| engine.serve_until(&stop));
        let measured = http2_load(case, shape, options, balancer);
        stop.store(true, Ordering::Relaxed);
        serving
            .join()
            .map_err(|_| io::Error::other("the servers panicked"))??;
        measured
    })
}

fn http2_load(
    case: &Case,
    shape: Shape,
    options: &Options,
    balancer: &Balancer,
) -> io::Result<Sample> {
    let directory = tempfile::tempdir()?;
    let load = |requests: u64| {
        let run = h2load::run(
            case.door,
            balancer.address,
            shape,
            requests,
            directory.path(),
        );
        run.map_err(io::Error::other)
    };
    let few = load((shape.connections * shape.streams * 8) as u64)?;
    let rate = few.succeeded as f64 / few.seconds;
    let before = balancer.process.cpu();
    let report = load((rate * options.time.as_secs_f64()).max(1000.0) as u64)?;
    let used = balancer.process.cpu().saturating_sub(before);
    if report.succeeded == 0 {
        return Err(io::Error::other("no request succeeded"));
    }
    Ok(Sample {
        figure: used.as_nanos() as f64 / report.succeeded as f64,
        per_second: report.succeeded as f64 / report.seconds,
        busy: used.as_secs_f64() / report.seconds,
        p50: f64::NAN,
        p99: f64::NAN,
        failed: report.failed,
    })
}

fn memory(
    engine: &mut Engine,
    balancer: &Balancer,
    connections: usize,
    talk: &Talk,
) -> io::Result<Sample> {
    // What the first few bring about (buffers, connections to servers) is not theirs.
    engine.add_idle(64, balancer.address, talk)?;
    engine.settle()?;
    let before = balancer.process.resident();
    engine.add_idle(connections, balancer.address, talk)?;
    engine.settle()?;
    let after = balancer.process.resident();
    Ok(Sample {
        figure: after.saturating_sub(before) as f64 / connections as f64,
        per_second: 0.0,
        busy: 0.0,
        p50: 0.0,
        p99: 0.0,
        failed: 0,
    })
}

fn open_to_all(directory: &TempDir) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), mode).map_err(|e| e.to_string())
}

fn certificate(directory: &TempDir) -> Result<Certificate, String> {
    let pair = Authority::new().issue(&["bench.example"]);
    let (cert, key) = pair.write(directory.path(), "bench");
    let both = directory.path().join("both.pem");
    std::fs::write(&both, pair.cert + &pair.key).map_err(|e| e.to_string())?;
    Ok(Certificate { cert, key, both })
}
