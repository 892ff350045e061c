//! The program and its maps, loaded or adopted.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use aya::maps::{HashMap as BpfHashMap, LpmTrie, Map, MapData, RingBuf};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, Pod};
use fathom_wire::packet::{
    Config, LAYOUT, Own, Service, ServiceCounters, TablePair, Target, TargetCounters, config_flag,
    limit,
};

use crate::pins::Pins;
use crate::table::Table;
use crate::{Error, Options};

/// The program as it was built from `bpf/` (`cargo xtask bpf`), aligned for the ELF parser.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../bpf/fathom.bpf.o"));

/// How large the maps are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Binds of packet listeners, and those that still have flows.
    pub services: u32,
    /// Servers, once per listener that uses them.
    pub targets: u32,
    /// Entries of Maglev tables, all services together.
    pub table_entries: u32,
    /// IPv4 flows. With `nat` each takes two entries, and room for two is made.
    pub flows: u32,
    /// IPv6 flows.
    pub flows6: u32,
    /// Sources remembered for rates, for affinity and for answered SYN challenges, each.
    pub sources: u32,
}

/// The maps, typed.
pub(crate) struct Maps {
    pub(crate) services: Table<Service>,
    pub(crate) targets: Table<Target>,
    pub(crate) own: Table<Own>,
    pub(crate) tables: Table<TablePair>,
    pub(crate) service_counters: Table<ServiceCounters>,
    pub(crate) target_counters: Table<TargetCounters>,
    pub(crate) vips: BpfHashMap<MapData, [u8; 20], u32>,
    pub(crate) allow: LpmTrie<MapData, [u8; 20], u32>,
    pub(crate) deny: LpmTrie<MapData, [u8; 20], u32>,
    pub(crate) flows4: MapData,
    pub(crate) flows6: MapData,
    pub(crate) samples: Option<RingBuf<MapData>>,
}

/// A loaded program with its maps.
pub(crate) struct Object {
    pub(crate) maps: Maps,
    pub(crate) cpus: u32,
    pub(crate) sizes: Sizes,
    /// Whether the maps were there already.
    pub(crate) adopted: bool,
    /// What did not go as asked.
    pub(crate) notes: Vec<String>,
    ebpf: Ebpf,
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Object")
            .field("sizes", &self.sizes)
            .field("adopted", &self.adopted)
            .finish_non_exhaustive()
    }
}

impl Object {
    /// Loads the program; its maps are those pinned in `pins`, or new ones that are pinned there. Without `pins`
    /// nothing is pinned (for trials).
    pub(crate) fn load(
        bytes: Option<&[u8]>,
        options: &Options,
        pins: Option<&Pins>,
    ) -> Result<Self, Error> {
        if !Path::new("/sys/kernel/btf/vmlinux").exists() {
            return Err(Error::NoBtf);
        }
        let mut notes = Vec::new();
        let dir = pins.map(|p| p.maps(LAYOUT));
        let adopted = dir.as_ref().is_some_and(|d| d.join("services").exists());
        let cpus = aya::util::nr_cpus().map_err(|(_, e)| Error::system("counting CPUs")(e))? as u32;
        let mut sizes = options
            .sizes
            .unwrap_or_else(|| Sizes::for_memory(total_memory()));
        if let Some(dir) = dir.as_ref().filter(|_| adopted) {
            sizes = pinned_sizes(dir, cpus)?;
        }
        if let Some(dir) = &dir {
            fs::create_dir_all(dir).map_err(|error| Error::Pin {
                path: dir.clone(),
                error,
            })?;
        }
        loop {
            match Self::attempt(
                bytes.unwrap_or(&OBJECT.0),
                options,
                dir.as_deref(),
                cpus,
                sizes,
            ) {
                Ok((maps, ebpf)) => {
                    return Ok(Self {
                        maps,
                        cpus,
                        sizes,
                        adopted,
                        notes,
                        ebpf,
                    });
                }
                // Less memory than its total promises: half the flows are better than none.
                Err(Refused::Memory) if sizes.flows > 4096 && !adopted => {
                    if let (Some(pins), true) = (pins, dir.is_some()) {
                        let _ = pins.remove_layout(LAYOUT);
                        if let Some(dir) = &dir {
                            fs::create_dir_all(dir).map_err(|error| Error::Pin {
                                path: dir.clone(),
                                error,
                            })?;
                        }
                    }
                    sizes.flows /= 2;
                    sizes.flows6 /= 2;
                    notes.truncate(0);
                    notes.push(format!(
                        "flow tables were made smaller for want of memory: {} flows",
                        sizes.flows
                    ));
                }
                Err(Refused::Memory) => {
                    return Err(Error::Load {
                        why: "there is not enough memory for its maps".into(),
                    });
                }
                Err(Refused::For(error)) => return Err(error),
            }
        }
    }

    fn attempt(
        bytes: &[u8],
        options: &Options,
        dir: Option<&Path>,
        cpus: u32,
        sizes: Sizes,
    ) -> Result<(Maps, Ebpf), Refused> {
        let config = SharedConfig(Config {
            secret: random_pair(),
            flags: if options.redirect_self {
                config_flag::REDIRECT_SELF
            } else {
                0
            },
            services: sizes.services,
            targets: sizes.targets,
            trust: 900, // two minutes in windows of 134 ms
        });
        let mut loader = EbpfLoader::new();
        loader.override_global("config", &config, true);
        for (name, entries) in sizes.entries(cpus) {
            loader.map_max_entries(name, entries);
        }
        let paths: Vec<_> = dir
            .into_iter()
            .flat_map(|d| KEPT.iter().map(move |name| (*name, d.join(name))))
            .collect();
        for (name, path) in &paths {
            loader.map_pin_path(name, path);
        }
        let mut ebpf = loader.load(bytes).map_err(refused)?;
        for (_, program) in ebpf.programs_mut() {
            let program: &mut Xdp = program.try_into().map_err(refused)?;
            program.load().map_err(refused)?;
        }
        let maps = Maps::take(&mut ebpf, sizes, cpus).map_err(Refused::For)?;
        Ok((maps, ebpf))
    }

    /// For the benchmark's build: sets the frame it makes, the same on every CPU.
    pub(crate) fn set_bench(&mut self, state: [u8; 96]) -> Result<(), Error> {
        let odd = |e: &dyn std::fmt::Display| Error::Load { why: e.to_string() };
        let map = self
            .ebpf
            .map_mut("bench")
            .ok_or_else(|| odd(&"it is not the benchmark's build"))?;
        let mut map = aya::maps::PerCpuArray::<_, [u8; 96]>::try_from(map).map_err(|e| odd(&e))?;
        let values = vec![state; self.cpus as usize];
        let values = aya::maps::PerCpuValues::try_from(values).map_err(|e| odd(&e))?;
        map.set(0, values, 0).map_err(|e| odd(&e))
    }

    /// The program.
    pub(crate) fn program(&self, name: &str) -> Result<BorrowedFd<'_>, Error> {
        let program: &Xdp = self
            .ebpf
            .program(name)
            .and_then(|p| p.try_into().ok())
            .ok_or_else(|| Error::Load {
                why: format!("it has no function {name}"),
            })?;
        program
            .fd()
            .map(|fd| fd.as_fd())
            .map_err(|e| Error::Load { why: e.to_string() })
    }
}

/// What must outlive a restart. Scratch memory and the configuration need not.
const KEPT: &[&str] = &[
    "services",
    "targets",
    "own",
    "tables",
    "syns",
    "service_counters",
    "target_counters",
    "vips",
    "flows4",
    "flows6",
    "fragments",
    "rates",
    "affinity",
    "trusted",
    "allow",
    "deny",
    "samples",
];

impl Sizes {
    /// What a machine with so many bytes of memory can spare: the full tables (1,000,000 flows, about 350 MB) from 8 GiB
    /// on, proportionally fewer below.
    #[must_use]
    pub fn for_memory(bytes: u64) -> Self {
        let share = (bytes.min(8 << 30) as f64) / (8u64 << 30) as f64;
        let part = |n: u32, least: u32| ((f64::from(n) * share) as u32).max(least);
        Self {
            services: 2048,
            targets: 16_384,
            table_entries: 1 << 23,
            flows: part(1_000_000, 16_384),
            flows6: part(250_000, 4096),
            sources: part(131_072, 4096),
        }
    }

    /// Small ones, for tests and trials.
    #[must_use]
    pub fn small() -> Self {
        Self {
            services: 64,
            targets: 256,
            table_entries: 1 << 19,
            flows: 16_384,
            flows6: 8192,
            sources: 4096,
        }
    }

    fn entries(self, cpus: u32) -> [(&'static str, u32); 17] {
        [
            ("services", self.services),
            ("targets", self.targets),
            ("own", limit::OWN_ADDRESSES),
            ("tables", self.table_entries / 2),
            ("syns", self.services),
            ("service_counters", self.services * cpus),
            ("target_counters", self.targets * cpus),
            ("vips", self.services * 2),
            ("flows4", self.flows.saturating_mul(2)),
            ("flows6", self.flows6.saturating_mul(2)),
            ("fragments", 8192),
            ("rates", self.sources),
            ("affinity", self.sources),
            ("trusted", self.sources),
            ("allow", 65_536),
            ("deny", 65_536),
            ("samples", 1 << 18),
        ]
    }
}

impl Maps {
    fn take(ebpf: &mut Ebpf, sizes: Sizes, cpus: u32) -> Result<Self, Error> {
        let entries: HashMap<_, _> = sizes.entries(cpus).into_iter().collect();
        let mut data = |name: &str| -> Result<MapData, Error> {
            match ebpf.take_map(name) {
                Some(
                    Map::Array(d)
                    | Map::HashMap(d)
                    | Map::LruHashMap(d)
                    | Map::LpmTrie(d)
                    | Map::RingBuf(d),
                ) => Ok(d),
                _ => Err(Error::Load {
                    why: format!("it has no map {name}"),
                }),
            }
        };
        macro_rules! table {
            ($name:literal) => {
                Table::map(data($name)?.fd().as_fd(), entries[$name]).map_err(Error::system(
                    concat!("mapping the packet program's ", $name),
                ))?
            };
        }
        let odd = |e: aya::maps::MapError| Error::Load { why: e.to_string() };
        Ok(Self {
            services: table!("services"),
            targets: table!("targets"),
            own: table!("own"),
            tables: table!("tables"),
            service_counters: table!("service_counters"),
            target_counters: table!("target_counters"),
            vips: Map::HashMap(data("vips")?).try_into().map_err(odd)?,
            allow: Map::LpmTrie(data("allow")?).try_into().map_err(odd)?,
            deny: Map::LpmTrie(data("deny")?).try_into().map_err(odd)?,
            flows4: data("flows4")?,
            flows6: data("flows6")?,
            samples: Some(Map::RingBuf(data("samples")?).try_into().map_err(odd)?),
        })
    }
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct SharedConfig(Config);
// SAFETY: integers without padding.
unsafe impl Pod for SharedConfig {}

enum Refused {
    Memory,
    For(Error),
}

/// The kernel's reason, out of aya's chain of errors.
fn refused(error: impl std::error::Error + 'static) -> Refused {
    let mut why = error.to_string();
    let mut code = None;
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(e) = next {
        if let Some(io) = e.downcast_ref::<std::io::Error>() {
            code = io.raw_os_error().or(code);
        }
        let text = e.to_string();
        if !why.contains(&text) {
            why = format!("{why}: {text}");
        }
        next = e.source();
    }
    match code {
        Some(libc::ENOMEM) => Refused::Memory,
        Some(libc::EPERM) => Refused::For(Error::NoRight {
            doing: "loading the packet program",
        }),
        _ => {
            // A verifier's log is thousands of lines; its end says what was wrong.
            let tail: Vec<&str> = why.lines().collect();
            let why = if tail.len() > 12 {
                format!("{} ... {}", tail[0], tail[tail.len() - 12..].join("\n"))
            } else {
                why
            };
            Refused::For(Error::Load { why })
        }
    }
}

/// Sizes of what is pinned; they hold until `fathom packet detach`.
fn pinned_sizes(dir: &Path, cpus: u32) -> Result<Sizes, Error> {
    let foreign = |why: String| Error::Foreign {
        path: dir.into(),
        why,
    };
    let entries = |name: &str| -> Result<u32, Error> {
        let fd =
            crate::sys::pinned(&dir.join(name)).map_err(|e| foreign(format!("{name}: {e}")))?;
        Ok(map_facts(fd)
            .map_err(|e| foreign(format!("{name}: {e}")))?
            .max_entries())
    };
    for name in KEPT {
        entries(name)?;
    }
    let sizes = Sizes {
        services: entries("services")?,
        targets: entries("targets")?,
        table_entries: entries("tables")? * 2,
        flows: entries("flows4")? / 2,
        flows6: entries("flows6")? / 2,
        sources: entries("rates")?,
    };
    if entries("target_counters")? != sizes.targets * cpus {
        return Err(foreign("it was made for another number of CPUs".into()));
    }
    Ok(sizes)
}

fn map_facts(fd: OwnedFd) -> Result<aya::maps::MapInfo, aya::maps::MapError> {
    MapData::from_fd(fd)?.info()
}

fn total_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|l| {
        l.strip_prefix("MemTotal:")?
            .trim()
            .strip_suffix("kB")?
            .trim()
            .parse::<u64>()
            .ok()
    });
    kib.unwrap_or(1 << 20) * 1024
}

fn random_pair() -> [u64; 2] {
    let mut bytes = [0u8; 16];
    if let Ok(mut source) = fs::File::open("/dev/urandom") {
        let _ = source.read_exact(&mut bytes);
    }
    let half = |i: usize| u64::from_ne_bytes(std::array::from_fn(|n| bytes[i * 8 + n]));
    [half(0), half(1)]
}
