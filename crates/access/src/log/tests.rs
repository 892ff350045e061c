use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fathom_core::plan::{AccessFormat, AccessTarget, LogLevel, LogPlan};

use super::sink::Sink;
use super::{HAND_OVER, Log};
use crate::{Exchange, Record};

fn record(listener: &str) -> Record<'_> {
    Record {
        time: Duration::from_secs(1),
        client: "192.0.2.1:1".parse().unwrap(),
        listener,
        route: None,
        pool: None,
        server: None,
        request_bytes: 0,
        response_bytes: 0,
        duration: Duration::ZERO,
        connect: None,
        retries: 0,
        reason: None,
        tls: None,
        exchange: Exchange::Tcp,
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn file_log(path: &std::path::Path) -> Arc<Log> {
    let plan = LogPlan {
        level: LogLevel::Info,
        access: AccessTarget::File(path.into()),
        format: AccessFormat::Logfmt,
    };
    Log::open(&plan).unwrap().unwrap()
}

#[test]
fn every_record_of_every_thread_is_written_once_after_close() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = file_log(&path);
    thread::scope(|scope| {
        for t in 0..4 {
            let log = &log;
            scope.spawn(move || {
                for i in 0..2000 {
                    // Well below what the queue holds, so that nothing may be dropped.
                    log.write(&record(&format!("t{t}-{i}")));
                }
            });
        }
    });
    log.close();
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    assert_eq!((lines.len(), log.written(), log.dropped()), (8000, 8000, 0));
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 8000);
}

#[test]
fn a_quiet_thread_is_written_without_close() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = file_log(&path);
    log.write(&record("only"));
    eventually("the sweep writes it", || {
        std::fs::read_to_string(&path)
            .unwrap()
            .contains("listener=only")
    });
}

#[test]
fn a_rotated_file_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let (path, rotated) = (
        dir.path().join("access.log"),
        dir.path().join("access.log.1"),
    );
    let log = file_log(&path);
    log.write(&record("before"));
    std::fs::rename(&path, &rotated).unwrap();
    log.reopen();
    eventually("the new file appears", || path.exists());
    log.write(&record("after"));
    log.close();
    assert!(
        std::fs::read_to_string(&rotated)
            .unwrap()
            .contains("listener=before")
    );
    let new = std::fs::read_to_string(&path).unwrap();
    assert!(
        new.contains("listener=after") && !new.contains("before"),
        "{new}"
    );
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_that_names_it() {
    let plan = LogPlan {
        level: LogLevel::Info,
        access: AccessTarget::File("/nonexistent/access.log".into()),
        format: AccessFormat::Json,
    };
    let error = Log::open(&plan).err().unwrap();
    assert!(
        error.to_string().contains("/nonexistent/access.log"),
        "{error}"
    );
}

/// Blocks every write until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

impl Write for Gate {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        drop(
            self.0
                .1
                .wait_while(self.0.0.lock().unwrap(), |open| !*open)
                .unwrap(),
        );
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_reader_costs_records_not_time() {
    let gate = Gate::default();
    let log = Log::idle(
        Sink::new(Box::new(gate.clone()), None),
        AccessFormat::Json,
        2,
    );
    log.start().unwrap();
    let total = 40 * HAND_OVER as u64 / 100;
    for _ in 0..total {
        log.write(&record("web")); // would hang here if it waited
    }
    assert!(log.dropped() > 0);
    gate.open();
    log.close();
    assert_eq!(log.written() + log.dropped(), total);
}

/// Fails every write while `full`.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<(bool, Vec<u8>)>>);

impl Write for Disk {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut disk = self.0.lock().unwrap();
        if disk.0 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        disk.1.extend_from_slice(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_counted_and_survived() {
    let disk = Disk::default();
    disk.0.lock().unwrap().0 = true;
    let log = Log::idle(
        Sink::new(Box::new(disk.clone()), None),
        AccessFormat::Logfmt,
        8,
    );
    log.start().unwrap();
    log.write(&record("lost"));
    eventually("the loss is counted", || log.dropped() == 1);
    assert!(log.last_error().is_some());
    disk.0.lock().unwrap().0 = false;
    log.write(&record("kept"));
    log.close();
    assert_eq!((log.written(), log.last_error()), (1, None));
    let text = String::from_utf8(disk.0.lock().unwrap().1.clone()).unwrap();
    assert!(
        text.starts_with("\ntime=") && text.contains("listener=kept"),
        "{text}"
    );
}
