//! What a stream promises, on both drivers.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::rc::Rc;
use std::time::Duration;

use common::{
    broken, local, on_both_drivers, pair, pair_on, pattern, read_exact, to_a_silent_peer,
};
use fathom_io::{Chunk, Compat, ConnectOptions, Gone, Stream, Target, clock, spawn, timer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

on_both_drivers! {
    async fn echo() {
        for ip in ["127.0.0.1", "::1"] {
            let (a, b) = pair_on(ip).await;
            assert_eq!(a.peer_addr(), b.local_addr());
            assert_eq!(b.peer_addr(), a.local_addr());
            for round in 0..100u32 {
                a.write(round.to_be_bytes().to_vec()).unwrap();
                let got = b.read().await.unwrap();
                assert_eq!(*got, round.to_be_bytes());
                b.write(got).unwrap();
                assert_eq!(read_exact(&a, 4).await, round.to_be_bytes());
            }
        }
    }

    async fn half_close_keeps_the_other_half() {
        let (a, b) = pair().await;
        a.write("request").unwrap();
        a.shutdown_write();
        assert_eq!(read_exact(&b, 7).await, b"request");
        assert!(b.read().await.unwrap().is_empty());
        assert!(b.read().await.unwrap().is_empty(), "the end stays the end");
        b.write("answer").unwrap();
        assert_eq!(read_exact(&a, 6).await, b"answer");
        drop(b);
        assert!(a.read().await.unwrap().is_empty());
    }

    async fn reset_is_seen_as_reset() {
        let (a, b) = pair().await;
        a.reset();
        let error = b.read().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    async fn a_refused_connection_says_so() {
        let (listener, address) = local("127.0.0.1");
        drop(listener);
        // The ring closes its descriptors a moment later.
        let error = loop {
            match Stream::connect(Target::Ip(address), &ConnectOptions::default()).await {
                Ok(stream) => drop(stream),
                Err(e) => break e,
            }
            tokio::task::yield_now().await;
        };
        assert!(matches!(error.kind(), std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::ConnectionReset));
    }

    async fn many_bytes_arrive_whole_and_in_order() {
        let (a, b) = pair().await;
        let data = pattern(8 << 20);
        let sent = data.clone();
        let writer = spawn(async move {
            for piece in sent.chunks(77_777) {
                a.writable(256 << 10).await.unwrap();
                a.write(piece.to_vec()).unwrap();
            }
            a.flush().await.unwrap();
            assert_eq!(a.queued(), 0);
            a.shutdown_write();
            a
        });
        let mut got = Vec::new();
        loop {
            let chunk = b.read().await.unwrap();
            if chunk.is_empty() { break }
            got.extend_from_slice(&chunk);
        }
        assert!(got == data);
        drop(writer.await.unwrap());
    }

    async fn what_is_queued_survives_the_drop() {
        let (a, b) = pair().await;
        let data = pattern(16 << 20);
        a.write(data.clone()).unwrap();
        drop(a);
        assert!(read_exact(&b, data.len()).await == data);
        assert!(b.read().await.unwrap().is_empty());
    }

    async fn a_peer_that_takes_nothing_is_dropped_after_a_while() {
        let (a, b) = pair().await;
        a.write(vec![1; 16 << 20]).unwrap();
        assert!(a.queued() > 0);
        drop(a);
        tokio::task::yield_now().await;
        let end = loop {
            clock::advance(Duration::from_secs(31));
            if let Ok(gone) = tokio::time::timeout(Duration::from_millis(50), b.peer_gone()).await {
                break gone;
            }
        };
        assert_eq!(end, Gone::Reset);
    }

    async fn a_reset_does_not_wait_for_a_peer_that_takes_nothing() {
        for turns in [0, 1, 50] {
            let (a, peer) = to_a_silent_peer().await;
            a.write(vec![1; 16 << 20]).unwrap();
            for _ in 0..turns { tokio::task::yield_now().await; }
            assert!(a.queued() > 0);
            a.abort();
            assert!(a.write("more").is_err());
            drop(a);
            broken(&peer).await;
        }
    }

    async fn many_small_pieces_arrive_in_order_after_a_stall() {
        let (a, b) = pair().await;
        let data = pattern((4 << 20) + 10_000);
        let (large, small) = data.split_at(4 << 20);
        a.write(large.to_vec()).unwrap();
        for (i, byte) in small.iter().enumerate() {
            a.write(Chunk::copy_of(&[*byte])).unwrap();
            // Also while the kernel has some of them.
            if i % 1000 == 0 { tokio::task::yield_now().await; }
        }
        assert!(read_exact(&b, data.len()).await == data);
    }

    async fn a_stalled_reader_stops_the_writer() {
        let (a, b) = pair().await;
        let a = Rc::new(a);
        let mut written = 0usize;
        loop {
            let room = timer::timeout(Duration::from_millis(50), a.writable(64 << 10)).await;
            if room.is_err() { break }
            a.write(vec![7; 64 << 10]).unwrap();
            written += 64 << 10;
            assert!(written < 256 << 20, "nothing stops the writer");
        }
        assert!(a.queued() >= 64 << 10 && a.queued() <= 256 << 10);
        let reader = spawn(async move { read_exact(&b, written).await.len() });
        a.flush().await.unwrap();
        assert_eq!(reader.await.unwrap(), written);
    }

    async fn peer_gone_takes_no_data() {
        let (a, b) = pair().await;
        a.write("kept").unwrap();
        let (gone, ()) = tokio::join!(b.peer_gone(), async {
            tokio::task::yield_now().await;
            a.shutdown_write();
        });
        assert_eq!(gone, Gone::Closed);
        assert_eq!(read_exact(&b, 4).await, b"kept");

        let (a, b) = pair().await;
        let (gone, ()) = tokio::join!(b.peer_gone(), async {
            tokio::task::yield_now().await;
            a.reset();
        });
        assert_eq!(gone, Gone::Reset);
    }

    async fn reading_goes_on_after_peer_gone_is_given_up() {
        let (a, b) = pair().await;
        for round in 0..50u8 {
            let gone = timer::timeout(Duration::from_millis(1), b.peer_gone());
            let (gone, ()) = tokio::join!(gone, async { a.write(vec![round]).unwrap(); });
            assert!(gone.is_err());
            assert_eq!(read_exact(&b, 1).await, [round]);
        }
    }

    async fn try_read_gives_what_is_there() {
        let (a, b) = pair().await;
        assert!(b.try_read().unwrap().is_none());
        a.write("x").unwrap();
        let got = loop {
            if let Some(chunk) = b.try_read().unwrap() { break chunk }
            tokio::task::yield_now().await;
        };
        assert_eq!(&*got, b"x");
        b.unread(got);
        assert_eq!(&*b.read().await.unwrap(), b"x");
        drop(a);
        assert!(b.read().await.unwrap().is_empty());
    }

    async fn corked_pieces_arrive_together() {
        let (a, b) = pair().await;
        {
            let _cork = a.cork();
            a.write("one ").unwrap();
            a.write_copy(b"two ").unwrap();
            a.write(Chunk::copy_of(b"three")).unwrap();
        }
        assert_eq!(read_exact(&b, 13).await, b"one two three");
    }

    async fn unix_sockets() {
        let dir = std::env::temp_dir().join(format!("fathom-io-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("server");
        let server = tokio::net::UnixListener::bind(&path).unwrap();
        let stream = Stream::connect(Target::Unix(&path), &ConnectOptions::default()).await.unwrap();
        let (mut peer, _) = server.accept().await.unwrap();
        stream.write("ping").unwrap();
        let mut buf = [0; 4];
        peer.read_exact(&mut buf).await.unwrap();
        peer.write_all(b"pong").await.unwrap();
        assert_eq!(read_exact(&stream, 4).await, b"pong");
        let missing = dir.join("missing");
        let error = Stream::connect(Target::Unix(&missing), &ConnectOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    async fn compat_speaks_tokio() {
        let (a, b) = pair().await;
        let (mut a, mut b) = (Compat::new(a), Compat::new(b));
        let data = pattern(3 << 20);
        let sent = data.clone();
        let writer = spawn(async move {
            a.write_all(&sent).await.unwrap();
            a.shutdown().await.unwrap();
            a
        });
        let mut got = Vec::new();
        b.read_to_end(&mut got).await.unwrap();
        assert!(got == data);
        drop(writer.await.unwrap());
    }

    async fn compat_gives_the_stream_back_with_nothing_lost() {
        let (a, b) = pair().await;
        a.write("first second").unwrap();
        let mut b = Compat::new(b);
        let mut buf = [0; 6];
        b.read_exact(&mut buf).await.unwrap();
        assert_eq!(read_exact(&b.into_inner(), 6).await, b"second");
    }

    async fn linger_lets_the_peer_read_to_the_end() {
        let (a, b) = pair().await;
        // b answers without having read what a sends: a plain close would destroy the answer.
        a.write(vec![0; 100_000]).unwrap();
        b.write("too large").unwrap();
        b.linger();
        assert_eq!(read_exact(&a, 9).await, b"too large");
        assert!(a.read().await.unwrap().is_empty());
    }

    async fn timers_fire_in_order_and_by_the_workers_clock() {
        let early = spawn(timer::after(Duration::from_secs(10)));
        let late = spawn(timer::after(Duration::from_secs(3600)));
        tokio::task::yield_now().await;
        clock::advance(Duration::from_secs(11));
        early.await.unwrap();
        assert!(!late.is_finished());
        clock::advance(Duration::from_secs(3600));
        late.await.unwrap();
        // And in real time.
        let begun = clock::precise();
        timer::after(Duration::from_millis(20)).await;
        assert!(clock::precise().since(begun) >= Duration::from_millis(20));
    }
}
