//! Where the program's links and maps are kept, so that they outlive the process.
//!
//! ```text
//! <root>/net-<inode of the network namespace>/link-<interface>
//! <root>/net-<inode of the network namespace>/layout-<n>/<map>
//! ```
//!
//! `root` is a bpf file system of Fathom's own. It is mounted in the mount namespace of PID 1 where that is another
//! one and can be entered: under `ip netns exec` a mount of one's own would vanish with the process, and the state with it.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::Error;

const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// The directories of one network namespace.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    /// `<root>/net-N`.
    home: PathBuf,
}

impl Pins {
    /// Finds the directory, mounting the file system first when `create`.
    pub(crate) fn open(root: &Path, create: bool) -> Result<Self, Error> {
        let fail = |error| Error::Pin {
            path: root.into(),
            error,
        };
        // The thread's own: a test's or a container's may differ from the process's first one.
        let namespace = fs::metadata("/proc/thread-self/ns/net")
            .map_err(fail)?
            .ino();
        let pins = Self {
            home: root.join(format!("net-{namespace}")),
        };
        if create {
            if !is_bpffs(root) {
                mount_outside(root)
                    .or_else(|_| mount(root))
                    .map_err(|error| match error.raw_os_error() {
                        Some(libc::EPERM) => Error::NoRight {
                            doing: "mounting a bpf file system",
                        },
                        _ => fail(error),
                    })?;
            }
            fs::create_dir_all(&pins.home).map_err(fail)?;
        }
        Ok(pins)
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    pub(crate) fn maps(&self, layout: u32) -> PathBuf {
        self.home.join(format!("layout-{layout}"))
    }

    pub(crate) fn link(&self, interface: &str) -> PathBuf {
        self.home.join(format!("link-{interface}"))
    }

    /// Interfaces with a pinned link (by the name they had).
    pub(crate) fn links(&self) -> Vec<String> {
        names(&self.home)
            .into_iter()
            .filter_map(|n| n.strip_prefix("link-").map(str::to_owned))
            .collect()
    }

    /// Layouts with pinned maps.
    pub(crate) fn layouts(&self) -> Vec<u32> {
        names(&self.home)
            .into_iter()
            .filter_map(|n| n.strip_prefix("layout-")?.parse().ok())
            .collect()
    }

    /// Removes one layout's maps.
    pub(crate) fn remove_layout(&self, layout: u32) -> io::Result<()> {
        remove_tree(&self.maps(layout))
    }

    /// Removes everything: links first, so that no packet meets a program whose maps are going.
    pub(crate) fn remove_all(&self) -> io::Result<()> {
        for link in self.links() {
            fs::remove_file(self.link(&link))?;
        }
        remove_tree(&self.home)?;
        // The last one out takes the mount away; others' state, or somebody in it, keeps it.
        if let Some(root) = self.home.parent()
            && !names(root).iter().any(|n| n.starts_with("net-"))
        {
            let _ = unmount_outside(root);
        }
        Ok(())
    }
}

/// What lies in a directory. (A bpf file system has files of the kernel's own in its root.)
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|e| e.file_name().into_string().ok())
        .collect()
}

/// bpffs has no `remove_dir_all`-friendly d_type for pins: two levels by hand.
fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            remove_tree(&path)?
        } else {
            fs::remove_file(&path)?
        }
    }
    fs::remove_dir(dir)
}

fn is_bpffs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|s| s.f_type == BPF_FS_MAGIC)
}

fn mount(root: &Path) -> io::Result<()> {
    fs::create_dir_all(root)?;
    let at = CString::new(root.as_os_str().as_bytes())?;
    // SAFETY: NUL-terminated strings that outlive the call.
    let r = unsafe {
        libc::mount(
            c"fathom".as_ptr(),
            at.as_ptr(),
            c"bpf".as_ptr(),
            libc::MS_NOSUID | libc::MS_NODEV,
            c"mode=0700".as_ptr().cast(),
        )
    };
    if r == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Runs `act` in PID 1's mount namespace, on a thread of its own that ends with it.
fn outside<T: Send + 'static>(
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let there = fs::File::open("/proc/1/ns/mnt")?;
    let worker = std::thread::spawn(move || {
        // SAFETY: no pointers. A thread that shares its file system context cannot change mount namespace.
        if unsafe { libc::unshare(libc::CLONE_FS) } != 0
            || unsafe { libc::setns(there.as_raw_fd(), libc::CLONE_NEWNS) } != 0
        {
            return Err(io::Error::last_os_error());
        }
        act()
    });
    worker
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the mounting thread panicked")))
}

/// Mounts at PID 1's, and succeeds only if the mount is seen from here then.
fn mount_outside(root: &Path) -> io::Result<()> {
    let same = fs::metadata("/proc/1/ns/mnt")?.ino() == fs::metadata("/proc/self/ns/mnt")?.ino();
    if same {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    let path = root.to_path_buf();
    outside(move || {
        if is_bpffs(&path) {
            Ok(())
        } else {
            mount(&path)
        }
    })?;
    if is_bpffs(root) {
        return Ok(());
    }
    // Mounts there do not propagate to here: carry the mount over by its descriptor.
    carry_over(root)
}

/// open_tree(2) a clone of the outside mount, move_mount(2) it here.
fn carry_over(root: &Path) -> io::Result<()> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
    let path = CString::new(root.as_os_str().as_bytes())?;
    let from = path.clone();
    let tree = outside(move || {
        // SAFETY: a NUL-terminated path.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_open_tree,
                libc::AT_FDCWD,
                from.as_ptr(),
                OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint,
            )
        };
        if fd < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(fd)
        }
    })?;
    fs::create_dir_all(root)?;
    // SAFETY: the descriptor is ours since open_tree; the paths are NUL-terminated.
    let r = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree,
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    let result = if r == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    };
    // SAFETY: ours, closed once.
    unsafe { libc::close(tree as i32) };
    result
}

fn unmount_outside(root: &Path) -> io::Result<()> {
    let unmount = |path: PathBuf| {
        let at = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: a NUL-terminated path.
        if unsafe { libc::umount2(at.as_ptr(), 0) } == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    let here = unmount(root.to_path_buf());
    let path = root.to_path_buf();
    let _ = outside(move || {
        if is_bpffs(&path) {
            unmount(path)
        } else {
            Ok(())
        }
    });
    here
}
