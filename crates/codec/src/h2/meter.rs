//! Counts the frames that cost their sender next to nothing and their receiver something.
//!
//! Each has a price; requests, content either way and time give credit. Who has spent all of it is flooding
//! (RFC 9113 §10.5: "Use of these features can be tracked and limits set").

/// What a peer may spend at once.
const MOST: i64 = 4000;
/// Credit that time gives.
const PER_SECOND: u64 = 400;
/// Credit of a request or response: resets of every second stream and a window update or two each are in order.
const PER_HEAD: i64 = 4;
/// Bytes of content worth one credit.
const CONTENT: u64 = 1024;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// Reads along with what a peer sends.
#[derive(Clone, Debug)]
pub struct Meter {
    /// Bytes left before frames begin (a client's preface), or of the frame's payload.
    skip: u64,
    head: [u8; 9],
    have: usize,
    credit: i64,
    content: u64,
    /// When credit was last given, in nanoseconds.
    since: u64,
    in_head: bool,
    settings: bool,
    leaving: bool,
}

impl Meter {
    /// For a peer that begins with so many bytes that are no frame.
    #[must_use]
    pub fn new(preface: usize, now: u64) -> Self {
        Self {
            skip: preface as u64,
            head: [0; 9],
            have: 0,
            credit: MOST,
            content: 0,
            since: now,
            in_head: false,
            settings: false,
            leaving: false,
        }
    }

    /// What the peer sent. `now` in nanoseconds.
    pub fn received(&mut self, mut bytes: &[u8], now: u64) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let n = self.skip.min(bytes.len() as u64);
                self.skip -= n;
                bytes = &bytes[n as usize..];
                continue;
            }
            let n = (self.head.len() - self.have).min(bytes.len());
            self.head[self.have..self.have + n].copy_from_slice(&bytes[..n]);
            self.have += n;
            bytes = &bytes[n..];
            if self.have == self.head.len() {
                self.have = 0;
                self.frame(now);
            }
        }
    }

    /// What was sent to the peer: taking it is work, and is answered by window updates.
    pub fn sent(&mut self, bytes: usize) {
        self.content += bytes as u64;
    }

    /// Whether the peer has sent too much that is of no use.
    #[must_use]
    pub fn is_flood(&self) -> bool {
        self.credit < 0
    }

    /// Whether a header section has begun and not ended, or the first bytes are not complete.
    #[must_use]
    pub fn in_head(&self) -> bool {
        self.in_head || !self.settings
    }

    /// Whether the peer's first SETTINGS have come.
    #[must_use]
    pub fn has_settings(&self) -> bool {
        self.settings
    }

    /// Whether the peer has said that it takes no new streams (RFC 9113 §6.8).
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    fn frame(&mut self, now: u64) {
        // RFC 9113 §4.1: length (24), type (8), flags (8), reserved and stream identifier (32).
        let [a, b, c, kind, flags, ..] = self.head;
        let length = u64::from(u32::from_be_bytes([0, a, b, c]));
        self.skip = length;
        let cost = match kind {
            DATA if length == 0 && flags & END_STREAM == 0 => 4,
            DATA => {
                self.content += length;
                0
            }
            HEADERS => {
                self.in_head = flags & END_HEADERS == 0;
                -PER_HEAD
            }
            CONTINUATION => {
                self.in_head = flags & END_HEADERS == 0;
                4
            }
            // Together with its HEADERS, a stream that is reset at once costs as much as it gave.
            RST_STREAM => 2 * PER_HEAD,
            SETTINGS if flags & ACK == 0 => {
                self.settings = true;
                8
            }
            PING if flags & ACK == 0 => 2,
            GOAWAY => {
                self.leaving = true;
                1
            }
            SETTINGS | PING | PRIORITY | WINDOW_UPDATE => 1,
            // RFC 9113 §4.1: unknown types are ignored. They are not free for that.
            _ => 1,
        };
        self.credit -= cost;
        if cost > 0 {
            self.give(now);
        }
        self.credit = self.credit.min(MOST);
    }

    fn give(&mut self, now: u64) {
        let earned = now.saturating_sub(self.since) * PER_SECOND / 1_000_000_000;
        if earned > 0 {
            self.since = now;
        }
        let content = std::mem::take(&mut self.content);
        self.content = content % CONTENT;
        let sum = i64::try_from(earned + content / CONTENT).unwrap_or(MOST);
        self.credit = self.credit.saturating_add(sum.min(2 * MOST));
    }
}
