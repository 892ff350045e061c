//! Frames in words: built from a line, told back as one.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::net::IpAddr;

/// Whether this process may load programs; says why not.
pub fn permitted() -> bool {
    // SAFETY: geteuid only reads the process's own identity.
    let root = std::fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
        .find_map(|l| {
            l.strip_prefix("CapEff:")
                .and_then(|v| u64::from_str_radix(v.trim(), 16).ok())
        })
        .is_some_and(|caps| caps & (1 << 21) != 0 && caps & (1 << 12) != 0);
    if !root {
        eprintln!("SKIPPED: needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN)");
        return false;
    }
    if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        eprintln!("SKIPPED: this kernel has no BTF");
        return false;
    }
    true
}

pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc];
pub const LB_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x5];

#[derive(Clone, Debug)]
pub struct Frame {
    pub vlan: Option<u16>,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub ttl: u8,
    pub id: u16,
    /// In units of 8 bytes, and more fragments.
    pub fragment: (u16, bool),
    pub body: Body,
    pub payload: Vec<u8>,
}

#[derive(Clone, Debug)]
pub enum Body {
    Tcp {
        sport: u16,
        dport: u16,
        flags: u8,
        seq: u32,
        ack: u32,
    },
    Udp {
        sport: u16,
        dport: u16,
    },
    /// What is quoted is in `payload`.
    Icmp {
        kind: u8,
        code: u8,
        rest: u32,
    },
    Raw(u8),
}

pub fn frame(src: &str, dst: &str, body: Body) -> Frame {
    Frame {
        vlan: None,
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        ttl: 64,
        id: 7,
        fragment: (0, false),
        body,
        payload: b"hello".to_vec(),
    }
}

pub fn udp(src: &str, sport: u16, dst: &str, dport: u16) -> Frame {
    frame(src, dst, Body::Udp { sport, dport })
}

/// Flags as letters: S A F R P.
pub fn tcp(src: &str, sport: u16, dst: &str, dport: u16, flags: &str) -> Frame {
    let flags = flags.chars().map(|c| match c {
        'F' => 1,
        'S' => 2,
        'R' => 4,
        'P' => 8,
        'A' => 16,
        _ => panic!("flag {c}"),
    });
    frame(
        src,
        dst,
        Body::Tcp {
            sport,
            dport,
            flags: flags.sum(),
            seq: 1000,
            ack: 0,
        },
    )
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

pub fn sum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let mut s: u32 = 0;
    for c in bytes.chunks(2) {
        s += u32::from(u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)]));
    }
    while s > 0xffff {
        s = (s & 0xffff) + (s >> 16);
    }
    s as u16
}

fn pseudo(src: IpAddr, dst: IpAddr, length: usize, proto: u8) -> Vec<u8> {
    let mut p = octets(src);
    p.extend(octets(dst));
    p.extend((length as u32).to_be_bytes());
    p.extend([0, 0, 0, proto]);
    p
}

impl Frame {
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// From the IP header on.
    pub fn packet(&self) -> Vec<u8> {
        let v6 = self.src.is_ipv6();
        let mut l4 = Vec::new();
        let (proto, at) = match self.body {
            Body::Tcp {
                sport,
                dport,
                flags,
                seq,
                ack,
            } => {
                l4.extend(sport.to_be_bytes());
                l4.extend(dport.to_be_bytes());
                l4.extend(seq.to_be_bytes());
                l4.extend(ack.to_be_bytes());
                l4.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
                (6, 16)
            }
            Body::Udp { sport, dport } => {
                l4.extend(sport.to_be_bytes());
                l4.extend(dport.to_be_bytes());
                l4.extend((8 + self.payload.len() as u16).to_be_bytes());
                l4.extend([0, 0]);
                (17, 6)
            }
            Body::Icmp { kind, code, rest } => {
                l4.extend([kind, code, 0, 0]);
                l4.extend(rest.to_be_bytes());
                (if v6 { 58 } else { 1 }, 2)
            }
            Body::Raw(proto) => (proto, usize::MAX),
        };
        l4.extend(&self.payload);
        if at != usize::MAX {
            let header = if proto == 1 {
                Vec::new()
            } else {
                pseudo(self.src, self.dst, l4.len(), proto)
            };
            let check = !sum(&[&header, &l4]);
            let check = if proto == 17 && check == 0 {
                0xffff
            } else {
                check
            };
            l4[at..at + 2].copy_from_slice(&check.to_be_bytes());
        }
        let later = self.fragment.0 > 0;
        if later {
            l4.clone_from(&self.payload);
        }
        let fragmented = later || self.fragment.1;
        let mut ip = Vec::new();
        if v6 {
            let extra = if fragmented { 8 } else { 0 };
            ip.extend([0x60, 0, 0, 0]);
            ip.extend((l4.len() as u16 + extra).to_be_bytes());
            ip.extend([if fragmented { 44 } else { proto }, self.ttl]);
            ip.extend(octets(self.src));
            ip.extend(octets(self.dst));
            if fragmented {
                ip.extend([proto, 0]);
                ip.extend((self.fragment.0 << 3 | u16::from(self.fragment.1)).to_be_bytes());
                ip.extend(u32::from(self.id).to_be_bytes());
            }
        } else {
            ip.extend([0x45, 0]);
            ip.extend((20 + l4.len() as u16).to_be_bytes());
            ip.extend(self.id.to_be_bytes());
            ip.extend((self.fragment.0 | u16::from(self.fragment.1) << 13).to_be_bytes());
            ip.extend([self.ttl, proto, 0, 0]);
            ip.extend(octets(self.src));
            ip.extend(octets(self.dst));
            let check = !sum(&[&ip]);
            ip[10..12].copy_from_slice(&check.to_be_bytes());
        }
        ip.extend(l4);
        ip
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut f = LB_MAC.to_vec();
        f.extend(CLIENT_MAC);
        if let Some(tag) = self.vlan {
            f.extend([0x81, 0]);
            f.extend(tag.to_be_bytes());
        }
        f.extend(if self.src.is_ipv6() {
            [0x86, 0xdd]
        } else {
            [8, 0]
        });
        f.extend(self.packet());
        f
    }
}

fn ip_at(bytes: &[u8]) -> IpAddr {
    if bytes.len() == 4 {
        IpAddr::from(<[u8; 4]>::try_from(bytes).unwrap())
    } else {
        IpAddr::from(<[u8; 16]>::try_from(bytes).unwrap())
    }
}

/// A frame in words: MACs, tags, addresses, ports, and `bad-...` for each checksum that is wrong.
pub fn words(frame: &[u8]) -> String {
    let mac = |m: &[u8]| match m {
        m if m == CLIENT_MAC => "client".to_owned(),
        m if m == LB_MAC => "lb".to_owned(),
        m if m == SERVER_MAC => "server".to_owned(),
        m => format!("{m:02x?}"),
    };
    let mut out = format!("{}>{}", mac(&frame[6..12]), mac(&frame[0..6]));
    let mut at = 12;
    while frame[at..at + 2] == [0x81, 0] {
        out += &format!(
            " vlan {}",
            u16::from_be_bytes([frame[at + 2], frame[at + 3]])
        );
        at += 4;
    }
    out + " " + &ip_words(&frame[at + 2..])
}

pub fn ip_words(p: &[u8]) -> String {
    let mut out = String::new();
    let (src, dst, ttl, mut proto, mut l4, fragment);
    if p[0] >> 4 == 4 {
        let header = usize::from(p[0] & 15) * 4;
        if sum(&[&p[..header]]) != 0xffff {
            out += "bad-ip-sum ";
        }
        if usize::from(u16::from_be_bytes([p[2], p[3]])) > p.len() {
            out += "short ";
        }
        (src, dst, ttl, proto) = (ip_at(&p[12..16]), ip_at(&p[16..20]), p[8], p[9]);
        let bits = u16::from_be_bytes([p[6], p[7]]);
        fragment = (bits & 0x1fff, bits & 0x2000 != 0);
        l4 = &p[header..usize::from(u16::from_be_bytes([p[2], p[3]])).min(p.len())];
    } else {
        (src, dst, ttl, proto) = (ip_at(&p[8..24]), ip_at(&p[24..40]), p[7], p[6]);
        l4 = &p[40..(40 + usize::from(u16::from_be_bytes([p[4], p[5]]))).min(p.len())];
        if proto == 44 {
            proto = l4[0];
            let bits = u16::from_be_bytes([l4[2], l4[3]]);
            fragment = (bits >> 3, bits & 1 != 0);
            l4 = &l4[8..];
        } else {
            fragment = (0, false);
        }
    }
    out += &format!("{src}>{dst} ttl {ttl} ");
    if fragment.0 > 0 {
        return out + &format!("fragment {}", fragment.0);
    }
    let whole = !fragment.1;
    let good = sum(&[&pseudo(src, dst, l4.len(), proto), l4]) == 0xffff;
    let port = |i: usize| u16::from_be_bytes([l4[i], l4[i + 1]]);
    match proto {
        6 => {
            if l4.len() < 20 {
                return out + &format!("tcp {}>{} quoted", port(0), port(2));
            }
            let letters: String = ['F', 'S', 'R', 'P', 'A']
                .iter()
                .enumerate()
                .filter(|(i, _)| l4[13] >> i & 1 == 1)
                .map(|(_, c)| *c)
                .collect();
            out += &format!("tcp {}>{} {letters}", port(0), port(2));
            if whole && !good {
                out += " bad-sum";
            }
        }
        17 => {
            out += &format!("udp {}>{}", port(0), port(2));
            if port(2) == 6080 {
                return out + " [" + &ip_words(&l4[8..]) + "]";
            }
            if whole && l4.len() > 8 && port(6) != 0 && !good {
                out += " bad-sum";
            }
        }
        1 | 58 => {
            let ok = if proto == 1 {
                sum(&[l4]) == 0xffff
            } else {
                good
            };
            out += &format!("icmp {}/{}", l4[0], l4[1]);
            if l4[0] == 3 && proto == 1 && l4[1] == 4 || proto == 58 && l4[0] == 2 {
                out += &format!(" mtu {}", u16::from_be_bytes([l4[6], l4[7]]));
            }
            if !ok {
                out += " bad-sum";
            }
            out += &format!(" [{}]", ip_words(&l4[8..]));
        }
        4 | 41 => out += &format!("[{}]", ip_words(l4)),
        other => out += &format!("proto {other}"),
    }
    out
}
