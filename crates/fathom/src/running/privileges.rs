//! Becoming `[runtime] user`, keeping only the capabilities that the configuration needs.

use caps::{CapSet, Capability, CapsHashSet};
use fathom_core::plan::{DepthPlan, Plan};
use rustix::process::{Gid, Uid};
use rustix::thread;

/// Drops to the user named. To be called while the process has one thread: those made later inherit it.
///
/// # Errors
/// In words, for the operator.
pub(super) fn drop_to(user: &str, plan: &Plan) -> Result<(), String> {
    let (uid, gid) = lookup(user)?;
    if rustix::process::geteuid() == uid {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(format!(
            "runtime.user = \"{user}\" needs root to begin with; leave it out to run as the user who starts it"
        ));
    }
    let keep = needed(plan);
    let failed =
        |what: &str, e: &dyn std::fmt::Display| format!("runtime.user = \"{user}\": {what}: {e}");
    thread::set_keep_capabilities(true).map_err(|e| failed("prctl(PR_SET_KEEPCAPS)", &e))?;
    thread::set_thread_groups(&[gid]).map_err(|e| failed("setgroups", &e))?;
    thread::set_thread_res_gid(gid, gid, gid).map_err(|e| failed("setresgid", &e))?;
    thread::set_thread_res_uid(uid, uid, uid).map_err(|e| failed("setresuid", &e))?;
    caps::set(None, CapSet::Effective, &keep)
        .and_then(|()| caps::set(None, CapSet::Permitted, &keep))
        .map_err(|e| failed("capset", &e))?;
    Ok(())
}

/// Binding low ports at a reload; for packets also the kernel program and its tables.
fn needed(plan: &Plan) -> CapsHashSet {
    let mut keep = CapsHashSet::from([Capability::CAP_NET_BIND_SERVICE]);
    if plan
        .listeners
        .iter()
        .any(|l| matches!(l.depth, DepthPlan::Packet(_)))
    {
        keep.extend([
            Capability::CAP_BPF,
            Capability::CAP_NET_ADMIN,
            Capability::CAP_NET_RAW,
        ]);
    }
    keep
}

/// `name`, `name:group` or a number, from the local files.
fn lookup(user: &str) -> Result<(Uid, Gid), String> {
    let passwd = std::fs::read_to_string("/etc/passwd").map_err(|e| format!("/etc/passwd: {e}"))?;
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [name, _, uid, gid, ..] = fields[..]
            && (name == user || uid == user)
            && let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse())
        {
            return Ok((Uid::from_raw(uid), Gid::from_raw(gid)));
        }
    }
    Err(format!(
        "runtime.user = \"{user}\": no such user in /etc/passwd"
    ))
}
