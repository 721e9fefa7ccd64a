//! The system calls a renter's program may make, and the one list turned into the two forms the
//! backends take: an OCI profile (podman) and a compiled filter (bubblewrap).
//!
//! It is a list of what is allowed; everything else answers "no such call" (ENOSYS), so a call
//! that a later kernel adds is refused until it is listed here. New namespaces, mounts, `bpf`,
//! `io_uring`, kernel keys, `ptrace`, `perf`, modules and reading other processes are not listed.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use serde_json::{Value, json};

/// Flags of `clone` that make a namespace: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NAMESPACE_FLAGS: u64 =
    0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000;
/// Address families a socket may have: unix, IPv4, IPv6, netlink. Others are not fenced by a
/// network namespace (vsock reaches the hypervisor) or widen the kernel's surface (alg, packet).
const FAMILIES: [u64; 4] = [1, 2, 10, 16];
/// Values of `personality` that ask or set the usual one; others switch off hardening.
const PERSONALITIES: [u64; 2] = [0, 0xffff_ffff];

/// Pairs of a call's name and its number here, from libc's `SYS_` constants.
macro_rules! calls {
    ($($name:literal $number:ident)+) => { &[$(($name, libc::$number)),+] };
}

/// Calls allowed with any arguments, on every architecture.
#[rustfmt::skip]
const ALLOWED: &[(&str, i64)] = calls![
    "accept" SYS_accept "accept4" SYS_accept4 "bind" SYS_bind "brk" SYS_brk "capget" SYS_capget
    "capset" SYS_capset "chdir" SYS_chdir "clock_getres" SYS_clock_getres "clock_gettime" SYS_clock_gettime
    "clock_nanosleep" SYS_clock_nanosleep "close" SYS_close "close_range" SYS_close_range
    "connect" SYS_connect "copy_file_range" SYS_copy_file_range "dup" SYS_dup "dup3" SYS_dup3
    "epoll_create1" SYS_epoll_create1 "epoll_ctl" SYS_epoll_ctl "epoll_pwait" SYS_epoll_pwait
    "epoll_pwait2" SYS_epoll_pwait2 "eventfd2" SYS_eventfd2 "execve" SYS_execve "execveat" SYS_execveat
    "exit" SYS_exit "exit_group" SYS_exit_group "faccessat" SYS_faccessat "faccessat2" SYS_faccessat2
    "fadvise64" SYS_fadvise64 "fallocate" SYS_fallocate "fchdir" SYS_fchdir "fchmod" SYS_fchmod
    "fchmodat" SYS_fchmodat "fchown" SYS_fchown "fchownat" SYS_fchownat
    "fcntl" SYS_fcntl "fdatasync" SYS_fdatasync "fgetxattr" SYS_fgetxattr "flistxattr" SYS_flistxattr
    "flock" SYS_flock "fremovexattr" SYS_fremovexattr "fsetxattr" SYS_fsetxattr "fstat" SYS_fstat
    "fstatfs" SYS_fstatfs "fsync" SYS_fsync "ftruncate" SYS_ftruncate "futex" SYS_futex
    "futex_waitv" SYS_futex_waitv "get_mempolicy" SYS_get_mempolicy "get_robust_list" SYS_get_robust_list
    "getcpu" SYS_getcpu "getcwd" SYS_getcwd "getdents64" SYS_getdents64 "getegid" SYS_getegid
    "geteuid" SYS_geteuid "getgid" SYS_getgid "getgroups" SYS_getgroups "getitimer" SYS_getitimer
    "getpeername" SYS_getpeername "getpgid" SYS_getpgid "getpid" SYS_getpid "getppid" SYS_getppid
    "getpriority" SYS_getpriority "getrandom" SYS_getrandom "getresgid" SYS_getresgid
    "getresuid" SYS_getresuid "getrusage" SYS_getrusage "getsid" SYS_getsid
    "getsockname" SYS_getsockname "getsockopt" SYS_getsockopt "gettid" SYS_gettid
    "gettimeofday" SYS_gettimeofday "getuid" SYS_getuid "getxattr" SYS_getxattr
    "inotify_add_watch" SYS_inotify_add_watch "inotify_init1" SYS_inotify_init1
    "inotify_rm_watch" SYS_inotify_rm_watch "io_cancel" SYS_io_cancel "io_destroy" SYS_io_destroy
    "io_getevents" SYS_io_getevents "io_setup" SYS_io_setup "io_submit" SYS_io_submit "ioctl" SYS_ioctl
    "ioprio_get" SYS_ioprio_get "ioprio_set" SYS_ioprio_set "kill" SYS_kill
    "landlock_add_rule" SYS_landlock_add_rule "landlock_create_ruleset" SYS_landlock_create_ruleset
    "landlock_restrict_self" SYS_landlock_restrict_self "lgetxattr" SYS_lgetxattr "linkat" SYS_linkat
    "listen" SYS_listen "listxattr" SYS_listxattr "llistxattr" SYS_llistxattr
    "lremovexattr" SYS_lremovexattr "lseek" SYS_lseek "lsetxattr" SYS_lsetxattr "madvise" SYS_madvise
    "mbind" SYS_mbind "membarrier" SYS_membarrier "memfd_create" SYS_memfd_create "mincore" SYS_mincore
    "mkdirat" SYS_mkdirat "mknodat" SYS_mknodat "mlock" SYS_mlock "mlock2" SYS_mlock2
    "mlockall" SYS_mlockall "mmap" SYS_mmap "mprotect" SYS_mprotect "mq_getsetattr" SYS_mq_getsetattr
    "mq_notify" SYS_mq_notify "mq_open" SYS_mq_open "mq_timedreceive" SYS_mq_timedreceive
    "mq_timedsend" SYS_mq_timedsend "mq_unlink" SYS_mq_unlink "mremap" SYS_mremap "msgctl" SYS_msgctl
    "msgget" SYS_msgget "msgrcv" SYS_msgrcv "msgsnd" SYS_msgsnd "msync" SYS_msync "munlock" SYS_munlock
    "munlockall" SYS_munlockall "munmap" SYS_munmap "nanosleep" SYS_nanosleep "newfstatat" SYS_newfstatat
    "openat" SYS_openat "openat2" SYS_openat2 "pidfd_open" SYS_pidfd_open
    "pidfd_send_signal" SYS_pidfd_send_signal "pipe2" SYS_pipe2 "pkey_alloc" SYS_pkey_alloc
    "pkey_free" SYS_pkey_free "pkey_mprotect" SYS_pkey_mprotect "ppoll" SYS_ppoll "prctl" SYS_prctl
    "pread64" SYS_pread64 "preadv" SYS_preadv "preadv2" SYS_preadv2 "prlimit64" SYS_prlimit64
    "pselect6" SYS_pselect6 "pwrite64" SYS_pwrite64 "pwritev" SYS_pwritev "pwritev2" SYS_pwritev2
    "read" SYS_read "readahead" SYS_readahead "readlinkat" SYS_readlinkat "readv" SYS_readv
    "recvfrom" SYS_recvfrom "recvmmsg" SYS_recvmmsg "recvmsg" SYS_recvmsg "removexattr" SYS_removexattr
    "renameat2" SYS_renameat2 "restart_syscall" SYS_restart_syscall "rseq" SYS_rseq
    "rt_sigaction" SYS_rt_sigaction "rt_sigpending" SYS_rt_sigpending "rt_sigprocmask" SYS_rt_sigprocmask
    "rt_sigqueueinfo" SYS_rt_sigqueueinfo "rt_sigreturn" SYS_rt_sigreturn "rt_sigsuspend" SYS_rt_sigsuspend
    "rt_sigtimedwait" SYS_rt_sigtimedwait "rt_tgsigqueueinfo" SYS_rt_tgsigqueueinfo
    "sched_get_priority_max" SYS_sched_get_priority_max "sched_get_priority_min" SYS_sched_get_priority_min
    "sched_getaffinity" SYS_sched_getaffinity "sched_getattr" SYS_sched_getattr
    "sched_getparam" SYS_sched_getparam "sched_getscheduler" SYS_sched_getscheduler
    "sched_rr_get_interval" SYS_sched_rr_get_interval "sched_setaffinity" SYS_sched_setaffinity
    "sched_setattr" SYS_sched_setattr "sched_setparam" SYS_sched_setparam
    "sched_setscheduler" SYS_sched_setscheduler "sched_yield" SYS_sched_yield "seccomp" SYS_seccomp
    "semctl" SYS_semctl "semget" SYS_semget "semop" SYS_semop "semtimedop" SYS_semtimedop
    "sendfile" SYS_sendfile "sendmmsg" SYS_sendmmsg "sendmsg" SYS_sendmsg "sendto" SYS_sendto
    "set_mempolicy" SYS_set_mempolicy "set_robust_list" SYS_set_robust_list
    "set_tid_address" SYS_set_tid_address "setfsgid" SYS_setfsgid "setfsuid" SYS_setfsuid
    "setgid" SYS_setgid "setgroups" SYS_setgroups "setitimer" SYS_setitimer "setpgid" SYS_setpgid
    "setpriority" SYS_setpriority "setregid" SYS_setregid "setresgid" SYS_setresgid
    "setresuid" SYS_setresuid "setreuid" SYS_setreuid "setsid" SYS_setsid
    "setsockopt" SYS_setsockopt "setuid" SYS_setuid "setxattr" SYS_setxattr "shmat" SYS_shmat
    "shmctl" SYS_shmctl "shmdt" SYS_shmdt "shmget" SYS_shmget "shutdown" SYS_shutdown
    "sigaltstack" SYS_sigaltstack "signalfd4" SYS_signalfd4 "socketpair" SYS_socketpair "splice" SYS_splice
    "statfs" SYS_statfs "statx" SYS_statx "symlinkat" SYS_symlinkat "sync" SYS_sync
    "syncfs" SYS_syncfs "sysinfo" SYS_sysinfo "tee" SYS_tee
    "tgkill" SYS_tgkill "timer_create" SYS_timer_create "timer_delete" SYS_timer_delete
    "timer_getoverrun" SYS_timer_getoverrun "timer_gettime" SYS_timer_gettime
    "timer_settime" SYS_timer_settime "timerfd_create" SYS_timerfd_create
    "timerfd_gettime" SYS_timerfd_gettime "timerfd_settime" SYS_timerfd_settime "times" SYS_times
    "tkill" SYS_tkill "truncate" SYS_truncate "umask" SYS_umask "uname" SYS_uname "unlinkat" SYS_unlinkat
    "utimensat" SYS_utimensat "wait4" SYS_wait4 "waitid" SYS_waitid "write" SYS_write "writev" SYS_writev
];

/// The older spellings, and calls whose numbers libc knows only on x86-64.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_HERE: &[(&str, i64)] = calls![
    "fchmodat2" SYS_fchmodat2 "getrlimit" SYS_getrlimit "renameat" SYS_renameat "setrlimit" SYS_setrlimit "sync_file_range" SYS_sync_file_range
    "access" SYS_access "alarm" SYS_alarm "arch_prctl" SYS_arch_prctl "chmod" SYS_chmod "chown" SYS_chown
    "creat" SYS_creat "dup2" SYS_dup2 "epoll_create" SYS_epoll_create "epoll_wait" SYS_epoll_wait
    "eventfd" SYS_eventfd "fork" SYS_fork "futimesat" SYS_futimesat "getdents" SYS_getdents
    "getpgrp" SYS_getpgrp "inotify_init" SYS_inotify_init "lchown" SYS_lchown "link" SYS_link
    "lstat" SYS_lstat "mkdir" SYS_mkdir "mknod" SYS_mknod "open" SYS_open "pause" SYS_pause "pipe" SYS_pipe
    "poll" SYS_poll "readlink" SYS_readlink "rename" SYS_rename "rmdir" SYS_rmdir "select" SYS_select
    "signalfd" SYS_signalfd "stat" SYS_stat "symlink" SYS_symlink "time" SYS_time "unlink" SYS_unlink
    "utime" SYS_utime "utimes" SYS_utimes "vfork" SYS_vfork
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[(&str, i64)] = &[];

#[derive(Clone, Copy)]
enum Test {
    Equals(u64),
    /// No bit of the mask is set.
    Without(u64),
}

/// Calls allowed only where the argument at this index passes; several lines of a call are "or".
fn conditional() -> Vec<(&'static str, i64, u8, Test)> {
    let mut lines = vec![("clone", libc::SYS_clone, 0, Test::Without(NAMESPACE_FLAGS))];
    lines.extend(FAMILIES.map(|f| ("socket", libc::SYS_socket, 0, Test::Equals(f))));
    lines.extend(PERSONALITIES.map(|p| ("personality", libc::SYS_personality, 0, Test::Equals(p))));
    lines
}

fn allowed() -> impl Iterator<Item = (&'static str, i64)> {
    ALLOWED.iter().chain(ALLOWED_HERE).copied()
}

/// The profile for an OCI runtime, as podman's `--security-opt seccomp=FILE` takes it.
pub fn oci_profile() -> Value {
    let mut calls = vec![json!({
        "names": allowed().map(|(name, _)| name).collect::<Vec<_>>(),
        "action": "SCMP_ACT_ALLOW",
    })];
    for (name, _, index, test) in conditional() {
        let (op, value, value_two) = match test {
            Test::Equals(value) => ("SCMP_CMP_EQ", value, 0),
            Test::Without(mask) => ("SCMP_CMP_MASKED_EQ", mask, 0),
        };
        calls.push(json!({
            "names": [name],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": index, "value": value, "valueTwo": value_two, "op": op}],
        }));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::ENOSYS,
        "architectures": [if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" }],
        "syscalls": calls,
    })
}

/// The filter as the kernel takes it: an array of `struct sock_filter` in native byte order.
///
/// # Errors
/// When the list does not compile for this architecture.
pub fn compiled() -> Result<Vec<u8>, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = allowed().map(|(_, number)| (number, vec![])).collect();
    for (_, number, index, test) in conditional() {
        let (op, value) = match test {
            Test::Equals(value) => (SeccompCmpOp::Eq, value),
            Test::Without(mask) => (SeccompCmpOp::MaskedEq(mask), 0),
        };
        // `socket` and `personality` take 32 bits of the register; the flags of `clone` all 64.
        let width = match test {
            Test::Equals(_) => SeccompCmpArgLen::Dword,
            Test::Without(_) => SeccompCmpArgLen::Qword,
        };
        let condition = SeccompCondition::new(index, width, op, value)?;
        rules.entry(number).or_default().push(SeccompRule::new(vec![condition])?);
    }
    let arch = if cfg!(target_arch = "aarch64") { TargetArch::aarch64 } else { TargetArch::x86_64 };
    let filter =
        SeccompFilter::new(rules, SeccompAction::Errno(libc::ENOSYS as u32), SeccompAction::Allow, arch)?;
    let program: BpfProgram = filter.try_into()?;
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for step in program {
        bytes.extend_from_slice(&step.code.to_ne_bytes());
        bytes.extend_from_slice(&[step.jt, step.jf]);
        bytes.extend_from_slice(&step.k.to_ne_bytes());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_open_the_sandbox_is_not_listed() {
        let refused = [
            "unshare",
            "setns",
            "clone3",
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "open_tree",
            "move_mount",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "mount_setattr",
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "bpf",
            "keyctl",
            "add_key",
            "request_key",
            "ptrace",
            "perf_event_open",
            "userfaultfd",
            "kexec_load",
            "kexec_file_load",
            "init_module",
            "finit_module",
            "delete_module",
            "open_by_handle_at",
            "name_to_handle_at",
            "process_vm_readv",
            "process_vm_writev",
            "pidfd_getfd",
            "kcmp",
            "fanotify_init",
            "swapon",
            "reboot",
            "syslog",
            "acct",
            "quotactl",
            "sethostname",
            "iopl",
            "ioperm",
            "modify_ldt",
            "settimeofday",
            "clock_settime",
            "adjtimex",
            "process_madvise",
            "vhangup",
        ];
        for name in refused {
            assert!(!allowed().any(|(listed, _)| listed == name), "{name} is allowed");
            assert!(!conditional().iter().any(|(listed, ..)| *listed == name), "{name} is allowed");
        }
    }

    #[test]
    fn both_forms_come_from_the_list_and_the_filter_fits_the_kernel() {
        let mut numbers: Vec<_> = allowed().collect();
        numbers.sort_by_key(|(_, number)| *number);
        for pair in numbers.windows(2) {
            assert_ne!(pair[0].1, pair[1].1, "{} and {} have one number", pair[0].0, pair[1].0);
        }
        let profile = oci_profile();
        assert_eq!(profile["syscalls"][0]["names"].as_array().map(Vec::len), Some(numbers.len()));
        let filter = compiled().unwrap();
        assert!(filter.len().is_multiple_of(8) && filter.len() / 8 <= 4096, "{} steps", filter.len() / 8);
    }
}
