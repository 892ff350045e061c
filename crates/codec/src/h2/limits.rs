//! Every limit of the `h2` crate, set here and nowhere left to its default.

use std::time::Duration;

/// Streams a client may have open. More are refused with REFUSED_STREAM.
const STREAMS: u32 = 128;
/// Content of one stream that may wait for its receiver.
const STREAM_WINDOW: u32 = 128 << 10;
/// Header section of a message, as RFC 9113 §6.5.2 counts it.
const HEADER_LIST: u32 = 64 << 10;
/// RFC 9113 §4.2: the least there may be; larger frames only let one stream hold up the others for longer.
const FRAME: u32 = 16 << 10;
/// RFC 9113 §6.5.2.
const HEADER_TABLE: u32 = 4096;
/// Streams that were reset here and are still remembered, so that frames on their way are told from errors.
const RESET_REMEMBERED: usize = 64;
const RESET_REMEMBERED_FOR: Duration = Duration::from_secs(1);
/// Streams that the peer reset before they were looked at (CVE-2023-44487).
const RESET_UNSEEN: usize = 20;
/// Streams reset here because of what the peer sent (CVE-2025-8671).
const RESET_BY_ERRORS: usize = 256;
/// The crate's own bound on what a stream holds back; senders here stop far below.
const SEND_BUFFER: usize = 256 << 10;
/// Cost of small DATA frames that wait to be read.
const SMALL_FRAMES: usize = 512 << 10;

/// Towards clients.
#[must_use]
pub fn server() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(STREAMS)
        .initial_window_size(STREAM_WINDOW)
        // Room for every stream: one whose server is slow must not hold back the others.
        .initial_connection_window_size(STREAM_WINDOW * STREAMS)
        .max_header_list_size(HEADER_LIST)
        .max_frame_size(FRAME)
        .header_table_size(HEADER_TABLE)
        .max_concurrent_reset_streams(RESET_REMEMBERED)
        .reset_stream_duration(RESET_REMEMBERED_FOR)
        .max_pending_accept_reset_streams(RESET_UNSEEN)
        .max_local_error_reset_streams(Some(RESET_BY_ERRORS))
        .max_send_buffer_size(SEND_BUFFER)
        .data_frame_budget(SMALL_FRAMES)
        .enable_connect_protocol();
    builder
}

/// Towards servers. `streams`: how many requests may be sent before the server has said how many it takes.
#[must_use]
pub fn client(streams: usize) -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_max_send_streams(streams)
        // RFC 9113 §8.4: push is of no use to a proxy.
        .enable_push(false)
        .max_concurrent_streams(0)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW * STREAMS)
        .max_header_list_size(HEADER_LIST)
        .max_frame_size(FRAME)
        .header_table_size(HEADER_TABLE)
        .max_concurrent_reset_streams(RESET_REMEMBERED)
        .reset_stream_duration(RESET_REMEMBERED_FOR)
        .max_pending_accept_reset_streams(RESET_UNSEEN)
        .max_local_error_reset_streams(Some(RESET_BY_ERRORS))
        .max_send_buffer_size(SEND_BUFFER)
        .data_frame_budget(SMALL_FRAMES);
    builder
}
