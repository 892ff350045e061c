//! Where the lines end: stdout, stderr or a file that may be rotated away.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use fathom_core::plan::AccessTarget;

pub(super) struct Sink {
    to: Box<dyn Write + Send>,
    path: Option<PathBuf>,
    /// The last write failed and may have ended inside a line.
    torn: bool,
}

impl Sink {
    /// `None` for `off`.
    pub(super) fn open(target: &AccessTarget) -> io::Result<Option<Self>> {
        Ok(Some(match target {
            AccessTarget::Off => return Ok(None),
            AccessTarget::Stdout => Self::new(Box::new(io::stdout()), None),
            AccessTarget::Stderr => Self::new(Box::new(io::stderr()), None),
            AccessTarget::File(path) => Self::new(Box::new(append(path)?), Some(path.clone())),
        }))
    }

    pub(super) fn new(to: Box<dyn Write + Send>, path: Option<PathBuf>) -> Self {
        Self {
            to,
            path,
            torn: false,
        }
    }

    /// Writes whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            self.to.write_all(b"\n")?;
        }
        let result = self.to.write_all(lines).and_then(|()| self.to.flush());
        self.torn = result.is_err();
        result
    }

    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            self.to = Box::new(append(path)?);
            self.torn = false;
        }
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .map_err(|e| io::Error::new(e.kind(), format!("open({}): {e}", path.display())))
}
