//! One request over an HTTP/2 connection of its own, for `http` and `grpc` checks.

use bytes::Bytes;
use http::{HeaderMap, Request, response};

use super::super::wire::Io;
use super::Failure;

/// What came back.
pub(in crate::probe) struct Answer {
    pub(in crate::probe) head: response::Parts,
    /// At most the limit asked for.
    pub(in crate::probe) body: Vec<u8>,
    pub(in crate::probe) trailers: Option<HeaderMap>,
}

/// Sends a request and reads the answer, at most `limit` bytes of its body.
pub(in crate::probe) async fn exchange(
    io: Box<dyn Io>,
    request: Request<()>,
    body: Option<Bytes>,
    limit: usize,
) -> Result<Answer, Failure> {
    let failed = |e: h2::Error| Failure::new(format_args!("http/2: {e}"));
    let (client, connection) = h2::client::Builder::new()
        .enable_push(false)
        .max_header_list_size(16 * 1024)
        .max_frame_size(16 * 1024)
        .initial_window_size(65_535)
        .max_concurrent_reset_streams(8)
        .handshake::<_, Bytes>(io)
        .await
        .map_err(failed)?;
    let exchange = async {
        let mut client = client.ready().await.map_err(failed)?;
        let (response, mut sender) = client
            .send_request(request, body.is_none())
            .map_err(failed)?;
        if let Some(body) = body {
            sender.send_data(body, true).map_err(failed)?;
        }
        let (head, mut incoming) = response.await.map_err(failed)?.into_parts();
        let mut body = Vec::new();
        while let Some(data) = incoming.data().await {
            let data = data.map_err(failed)?;
            let _ = incoming.flow_control().release_capacity(data.len());
            body.extend_from_slice(&data[..data.len().min(limit - body.len())]);
            if body.len() == limit {
                return Ok(Answer {
                    head,
                    body,
                    trailers: None,
                });
            }
        }
        let trailers = incoming.trailers().await.map_err(failed)?;
        Ok(Answer {
            head,
            body,
            trailers,
        })
    };
    // The connection moves the frames; it ends first only if it fails.
    tokio::pin!(connection);
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        ended = &mut connection => match ended {
            Err(e) => Err(failed(e)),
            // Closed in good order: whatever had arrived is still there.
            Ok(()) => exchange.await,
        },
    }
}
