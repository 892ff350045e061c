//! Two connections joined, on both drivers.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::rc::Rc;
use std::time::Duration;

use common::{on_both_drivers, pair, pattern, read_exact};
use fathom_io::{JoinOptions, JoinOutcome, Progress, Side, Stream, clock, join, spawn};
use tokio::task::JoinHandle;

/// A client and a server with a join between them.
struct Joined {
    client: Stream,
    server: Stream,
    progress: Rc<Progress>,
    outcome: JoinHandle<JoinOutcome>,
}

async fn joined(options: JoinOptions) -> Joined {
    let (client, near) = pair().await;
    let (far, server) = pair().await;
    let progress = Rc::new(Progress::default());
    let counts = Rc::clone(&progress);
    let outcome = spawn(async move { join(&near, &far, &options, &counts).await });
    Joined {
        client,
        server,
        progress,
        outcome,
    }
}

async fn send_all(stream: &Stream, data: &[u8]) {
    for piece in data.chunks(100_000) {
        stream.writable(512 << 10).await.unwrap();
        stream.write(piece.to_vec()).unwrap();
    }
    stream.flush().await.unwrap();
}

on_both_drivers! {
    async fn both_ways_and_half_close() {
        let j = joined(JoinOptions::default()).await;
        j.client.write("question").unwrap();
        j.client.shutdown_write();
        assert_eq!(read_exact(&j.server, 8).await, b"question");
        assert!(j.server.read().await.unwrap().is_empty());
        j.server.write("answer").unwrap();
        assert_eq!(read_exact(&j.client, 6).await, b"answer");
        assert!(!j.outcome.is_finished());
        j.server.shutdown_write();
        assert!(j.client.read().await.unwrap().is_empty());
        assert!(matches!(j.outcome.await.unwrap(), JoinOutcome::Closed));
        assert_eq!((j.progress.forth.get(), j.progress.back.get()), (8, 6));
    }

    async fn bulk_both_ways_at_once_is_unharmed() {
        let j = joined(JoinOptions::default()).await;
        let up = pattern(7 << 20);
        let down = pattern(5 << 20);
        let (client, server) = (Rc::new(j.client), Rc::new(j.server));
        let tasks = [
            spawn({ let (s, d) = (Rc::clone(&client), up.clone()); async move { send_all(&s, &d).await; s.shutdown_write(); } }),
            spawn({ let (s, d) = (Rc::clone(&server), down.clone()); async move { send_all(&s, &d).await; s.shutdown_write(); } }),
            spawn({ let s = Rc::clone(&server); let d = up.clone(); async move { assert!(read_exact(&s, d.len()).await == d); } }),
            spawn({ let s = Rc::clone(&client); let d = down.clone(); async move { assert!(read_exact(&s, d.len()).await == d); } }),
        ];
        for task in tasks { task.await.unwrap(); }
        assert!(client.read().await.unwrap().is_empty());
        assert!(server.read().await.unwrap().is_empty());
        assert!(matches!(j.outcome.await.unwrap(), JoinOutcome::Closed));
        assert_eq!((j.progress.forth.get(), j.progress.back.get()), (7 << 20, 5 << 20));
    }

    async fn bulk_then_chat_then_bulk() {
        let j = joined(JoinOptions::default()).await;
        for round in 0..3u8 {
            let data = pattern(6 << 20);
            let (client, server) = (&j.client, &j.server);
            let ((), got) = tokio::join!(send_all(client, &data), read_exact(server, data.len()));
            assert!(got == data);
            for _ in 0..20 {
                j.client.write(vec![round]).unwrap();
                assert_eq!(read_exact(&j.server, 1).await, [round]);
                j.server.write("ok").unwrap();
                assert_eq!(read_exact(&j.client, 2).await, b"ok");
            }
        }
    }

    async fn a_reset_of_the_client_resets_the_server() {
        let j = joined(JoinOptions::default()).await;
        j.client.write("x").unwrap();
        read_exact(&j.server, 1).await;
        j.client.reset();
        assert_eq!(j.server.read().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert!(matches!(j.outcome.await.unwrap(), JoinOutcome::Failed { side: Side::First, .. }));
    }

    async fn a_reset_in_the_middle_of_bulk_is_passed_on() {
        let j = joined(JoinOptions::default()).await;
        let client = Rc::new(j.client);
        let sender = spawn({ let client = Rc::clone(&client); async move {
            while client.writable(1 << 20).await.is_ok() && client.write(vec![1; 100_000]).is_ok() {}
        }});
        read_exact(&j.server, 8 << 20).await;
        j.server.reset();
        sender.await.unwrap();
        assert!(client.read().await.is_err());
        assert!(matches!(j.outcome.await.unwrap(), JoinOutcome::Failed { side: Side::Second, .. }));
    }

    async fn a_stalled_receiver_bounds_what_is_held() {
        let j = joined(JoinOptions::default()).await;
        let mut last = u64::MAX;
        // Send until nothing moves any more.
        loop {
            for _ in 0..50 {
                if j.client.queued() < 1 << 20 {
                    j.client.write(vec![3; 64 << 10]).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            if j.progress.forth.get() == last { break }
            last = j.progress.forth.get();
        }
        // The kernel's buffers hold some megabytes at most; without a bound it would be all.
        assert!(last < 64 << 20);
        j.server.write("still here").unwrap();
        assert_eq!(read_exact(&j.client, 10).await, b"still here");
    }

    async fn idle_ends_it() {
        let j = joined(JoinOptions { idle: Some(Duration::from_secs(300)), ..JoinOptions::default() }).await;
        j.client.write("x").unwrap();
        read_exact(&j.server, 1).await;
        clock::advance(Duration::from_secs(200));
        j.client.write("y").unwrap();
        read_exact(&j.server, 1).await;
        clock::advance(Duration::from_secs(200));
        for _ in 0..10 { tokio::task::yield_now().await; }
        assert!(!j.outcome.is_finished());
        clock::advance(Duration::from_secs(200));
        assert!(matches!(j.outcome.await.unwrap(), JoinOutcome::Idle));
        assert!(j.client.read().await.unwrap().is_empty());
    }
}
