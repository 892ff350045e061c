//! The command line: what can be typed, and nothing of what it does.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A load balancer for packets, streams and requests.
#[derive(Debug, Parser)]
#[command(
    name = "fathom",
    version,
    about,
    propagate_version = true,
    disable_help_subcommand = true
)]
#[command(
    after_help = "Exit codes: 0 fine · 1 the input is wrong · 2 the machine refused · 3 no running Fathom could be reached"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the balancer. SIGHUP re-reads the file, SIGTERM finishes what is under way and ends
    Run {
        /// The configuration
        #[arg(short, long, default_value = "fathom.toml", value_name = "FILE")]
        config: PathBuf,
    },
    /// Show it working: example servers, listeners, visitors and the dashboard; needs nothing
    Demo {
        /// Write the demo's configuration here as well
        #[arg(long, value_name = "FILE")]
        write_config: Option<PathBuf>,
        /// End by itself after this many seconds
        #[arg(long, value_name = "SECONDS")]
        seconds: Option<u64>,
    },
    /// Say whether a configuration is valid, and if not, everything that is wrong with it
    Check {
        /// The configuration
        #[arg(default_value = "fathom.toml", value_name = "FILE")]
        config: PathBuf,
        /// Print the findings as JSON, to stdout
        #[arg(long)]
        json: bool,
    },
    /// Say what would happen to a request: every rule tried and why, then pool, server, retries, headers
    Explain(Explain),
    /// Say what a reload to FILE would change in the running process
    Plan {
        /// The new configuration
        #[arg(value_name = "FILE")]
        config: PathBuf,
        #[command(flatten)]
        remote: Remote,
    },
    /// Have the running process re-read its file
    Reload {
        #[command(flatten)]
        remote: Remote,
    },
    /// Show listeners, pools and servers of the running process
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Give a server no new work; what it has, it finishes
    Drain {
        /// The server
        #[arg(value_name = "POOL/SERVER")]
        server: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Give a drained server work again
    Undrain {
        /// The server
        #[arg(value_name = "POOL/SERVER")]
        server: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Change a server's weight until the next restart
    Weight {
        /// The server
        #[arg(value_name = "POOL/SERVER")]
        server: String,
        /// 0 to 65535; 0 gives it no new work
        #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(0..=65_535))]
        weight: u32,
        #[command(flatten)]
        remote: Remote,
    },
    /// Change the shares of a split route (not built yet)
    #[command(hide = true)]
    Split {
        /// The route and its shares
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Hand over to a new binary (not built yet)
    #[command(hide = true)]
    Upgrade,
    /// Translate haproxy.cfg or nginx.conf (not built yet)
    #[command(hide = true)]
    Import {
        /// What to translate
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The packet depth's program in the kernel
    Packet {
        #[command(subcommand)]
        command: PacketCommand,
    },
    /// A live view of the running process
    Top {
        #[command(flatten)]
        remote: Remote,
    },
    /// Print the JSON Schema of the configuration
    Schema,
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PacketCommand {
    /// Take the program off the interfaces and remove every pinned trace
    Detach,
}

/// Where the running process is.
#[derive(Args, Clone, Debug)]
pub(crate) struct Remote {
    /// The configuration whose [admin] section says where the running process listens
    #[arg(short, long = "config", value_name = "FILE", id = "remote_config")]
    pub(crate) config: Option<PathBuf>,
    /// The admin address itself: 127.0.0.1:9400 or unix:/run/fathom.sock
    #[arg(long, value_name = "ADDRESS", env = "FATHOM_ADMIN")]
    pub(crate) admin: Option<String>,
    /// The admin token
    #[arg(
        long,
        value_name = "TOKEN",
        env = "FATHOM_TOKEN",
        hide_env_values = true
    )]
    pub(crate) token: Option<String>,
}

/// `fathom explain`.
#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// [FILE] METHOD URL
    #[arg(required = true, num_args = 2..=3, value_names = ["FILE", "METHOD", "URL"])]
    pub(crate) words: Vec<String>,
    /// A header field, as curl takes it
    #[arg(short = 'H', long = "header", value_name = "K: V")]
    pub(crate) headers: Vec<String>,
    /// The client's address
    #[arg(long, value_name = "IP")]
    pub(crate) from: Option<IpAddr>,
    /// A file with the request's body
    #[arg(long, value_name = "FILE")]
    pub(crate) body: Option<PathBuf>,
    /// Which listener, when the URL does not tell
    #[arg(long, value_name = "NAME")]
    pub(crate) listener: Option<String>,
    /// Ask the running process, which knows health and load
    #[arg(long)]
    pub(crate) live: bool,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// When to colour messages.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}
