//! The socket: opened early, while there are privileges; served later.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use fathom_core::plan::AdminBind;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use crate::guard::Via;
use crate::{Control, api};

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 128;
/// For a request's head, and between requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// After a failed accept (out of descriptors): trying again at once would only burn.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A socket that listens and is not served yet.
#[derive(Debug)]
pub struct Bound(Socket);

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// Opens the admin side's socket. A unix socket is for its owner alone; one that a dead process left is replaced.
///
/// # Errors
/// The failed call, with its address.
pub fn bind(to: &AdminBind) -> io::Result<Bound> {
    match to {
        AdminBind::Tcp(address) => {
            let listener = TcpListener::bind(address).map_err(|e| named("bind", address, &e))?;
            listener.set_nonblocking(true)?;
            Ok(Bound(Socket::Tcp(listener)))
        }
        AdminBind::Unix(path) => {
            remove_stale(path)?;
            let listener =
                UnixListener::bind(path).map_err(|e| named("bind", path.display(), &e))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))
                .map_err(|e| named("chmod", path.display(), &e))?;
            listener.set_nonblocking(true)?;
            Ok(Bound(Socket::Unix(listener, path.clone())))
        }
    }
}

fn named(call: &str, what: impl std::fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{call}({what}): {error}"))
}

/// Removes a socket file that nobody listens on.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket
        && UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
    {
        fs::remove_file(path).map_err(|e| named("unlink", path.display(), &e))?;
    }
    Ok(())
}

impl Bound {
    /// Where it listens, if on TCP: with the port that was chosen for port 0.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }

    /// Serves until dropped or aborted. To be called in the control path's runtime.
    ///
    /// # Errors
    /// The runtime cannot watch the socket.
    pub async fn serve(self, control: Arc<dyn Control>) -> io::Result<()> {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        match self.0 {
            Socket::Tcp(listener) => {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let router = api::router(control, Via::Tcp);
                loop {
                    let slot = slot(&slots).await;
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            let _ = stream.set_nodelay(true); // a matter of speed only
                            drop(tokio::spawn(connection(stream, router.clone(), slot)));
                        }
                        Err(error) => accept_failed(&error).await,
                    }
                }
            }
            Socket::Unix(listener, path) => {
                let listener = tokio::net::UnixListener::from_std(listener)?;
                let _unlink = Unlink(path);
                let router = api::router(control, Via::Unix);
                loop {
                    let slot = slot(&slots).await;
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            drop(tokio::spawn(connection(stream, router.clone(), slot)))
                        }
                        Err(error) => accept_failed(&error).await,
                    }
                }
            }
        }
    }
}

/// The socket file goes with its listener.
struct Unlink(PathBuf);

impl Drop for Unlink {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // may be gone already
    }
}

type Slot = tokio::sync::OwnedSemaphorePermit;

async fn slot(slots: &Arc<Semaphore>) -> Slot {
    Arc::clone(slots)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed")
}

async fn accept_failed(error: &io::Error) {
    tracing::warn!("admin: accept: {error}");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    slot: Slot,
) {
    let service = tower(router);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("admin: connection: {error}");
    }
    drop(slot);
}

/// The router as hyper's kind of service.
fn tower(
    router: Router,
) -> impl hyper::service::Service<
    Request<hyper::body::Incoming>,
    Response = Response,
    Error = Infallible,
    Future = impl Send,
> {
    TowerToHyperService::new(router)
}
