//! Watching certificate files: their directories, since a renewal usually replaces the file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::error::ConfigError;

/// Calls back when a watched file may have changed. Bursts are the caller's to gather: the callback only says "look".
pub struct Watcher {
    inner: RecommendedWatcher,
    directories: HashSet<PathBuf>,
    files: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Watcher {
    /// A watcher that calls `changed`, from a thread of its own.
    ///
    /// # Errors
    /// When the machine has no inotify instance left.
    pub fn new(changed: impl Fn() + Send + 'static) -> Result<Self, ConfigError> {
        let files = Arc::new(Mutex::new(HashSet::<PathBuf>::new()));
        let watched = files.clone();
        let inner = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return changed() };
            if event.kind.is_access() {
                return;
            }
            let watched = watched.lock().expect("no panic while held");
            // A link in the same directory may be what was swapped (Kubernetes, certbot), under another name:
            // any change in a directory of ours counts, but for files that are plainly others' temporaries.
            let ours = |path: &PathBuf| {
                watched.contains(path) || watched.iter().any(|f| f.parent() == path.parent())
            };
            if event.paths.iter().any(ours) {
                drop(watched);
                changed();
            }
        })
        .map_err(|e| ConfigError::other(format_args!("cannot watch files: {e}")))?;
        Ok(Self {
            inner,
            directories: HashSet::new(),
            files,
        })
    }

    /// Watches exactly these files from now on.
    ///
    /// # Errors
    /// The first directory that cannot be watched; the others are watched all the same.
    pub fn watch(&mut self, files: HashSet<PathBuf>) -> Result<(), ConfigError> {
        let directory = |f: &PathBuf| match f.parent() {
            Some(p) if !p.as_os_str().is_empty() => p.to_owned(),
            _ => Path::new(".").to_owned(),
        };
        let wanted: HashSet<PathBuf> = files.iter().map(directory).collect();
        *self.files.lock().expect("no panic while held") = files;
        let mut result = Ok(());
        for old in self.directories.difference(&wanted) {
            let _ = self.inner.unwatch(old); // gone already: nothing to end
        }
        let known = std::mem::take(&mut self.directories);
        for new in wanted {
            if known.contains(&new) {
                self.directories.insert(new);
                continue;
            }
            match self.inner.watch(&new, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.directories.insert(new);
                }
                Err(e) => {
                    result = Err(ConfigError::file(
                        &new,
                        format_args!("cannot be watched: {e}"),
                    ))
                }
            }
        }
        result
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher")
            .field("directories", &self.directories)
            .finish_non_exhaustive()
    }
}
