//! Connections given up in every state, by the thousand: nothing leaks. (One test, because it
//! counts the descriptors of the process.)
#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::time::{Duration, Instant};

use common::{local, pair, read_exact};
use fathom_io::{
    ConnectOptions, Driver, JoinOptions, Progress, Stream, Target, join, spawn, timer,
};

const ROUNDS: usize = 300;

#[test]
fn nothing_leaks_over_thousands_of_aborts() {
    for driver in [Driver::Epoll, Driver::Uring] {
        common::run(driver, storm());
    }
}

async fn storm() {
    let (listener, address) = local("127.0.0.1");
    // Whatever is made once is made now.
    let _kept = pair().await;
    let before = descriptors();
    let acceptor = spawn(async move {
        // Each accepted connection is given up in one of several ways.
        for round in 0.. {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            spawn(async move {
                match round % 6 {
                    0 => drop(stream),
                    1 => stream.reset(),
                    2 => drop(timer::timeout(Duration::from_millis(1), stream.read()).await),
                    3 => {
                        let _ = stream.write(vec![1; 300_000]);
                        let _ = timer::timeout(Duration::from_millis(1), stream.flush()).await;
                        stream.reset();
                    }
                    4 => {
                        let _ = stream.write(vec![1; 5_000_000]);
                        let _ = timer::timeout(Duration::from_millis(1), stream.peer_gone()).await;
                        stream.abort();
                    }
                    _ => while matches!(stream.read().await, Ok(chunk) if !chunk.is_empty()) {},
                }
            });
        }
    });
    for round in 0..ROUNDS {
        let options = ConnectOptions::default();
        // Given up while connecting.
        {
            let mut connecting = std::pin::pin!(Stream::connect(Target::Ip(address), &options));
            std::future::poll_fn(|cx| {
                let _ = connecting.as_mut().poll(cx);
                std::task::Poll::Ready(())
            })
            .await;
        }
        let Ok(a) = Stream::connect(Target::Ip(address), &options).await else {
            continue;
        };
        let _ = a.write(vec![2; [1, 100_000, 3_000_000][round % 3]]);
        match round % 5 {
            0 => drop(a),
            1 => a.reset(),
            2 => {
                let _ = timer::timeout(Duration::from_millis(1), a.read()).await;
                a.reset();
            }
            3 => {
                let Ok(b) = Stream::connect(Target::Ip(address), &options).await else {
                    continue;
                };
                let (options, progress) = (JoinOptions::default(), Progress::default());
                let joined = join(&a, &b, &options, &progress);
                let _ = timer::timeout(Duration::from_millis(2), joined).await;
                a.abort();
                b.abort();
            }
            _ => {
                let _ = a.try_read();
                a.abort();
            }
        }
    }
    // Everything still works, with as many connections as there are buffers to lend and more.
    let mut pairs = Vec::new();
    for _ in 0..40 {
        pairs.push(pair().await);
    }
    for round in 0..10u8 {
        for (a, b) in &pairs {
            a.write(vec![round; 3000]).unwrap();
            b.write(vec![round; 3000]).unwrap();
        }
        for (a, b) in &pairs {
            assert_eq!(read_exact(a, 3000).await, [round; 3000]);
            assert_eq!(read_exact(b, 3000).await, [round; 3000]);
        }
    }
    drop(pairs);
    // Graceful closes of what the peer does not read end by their deadline: move the clock.
    let until = Instant::now() + common::PATIENCE / 2;
    loop {
        let now = descriptors();
        // The pipes kept for reuse are 16 at most.
        if now <= before + 32 {
            break;
        }
        assert!(
            Instant::now() < until,
            "{before} descriptors before, {now} after"
        );
        fathom_io::clock::advance(Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    acceptor.abort();
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
