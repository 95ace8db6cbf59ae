"""The system calls that a child never needs: denied by the kernel, whatever a hostile file makes a library do."""

import errno
import functools
import os
from typing import Any, Final

__all__ = ["available", "deny", "rules"]

_REFUSED: Final = (
    # The network, and sockets of every other kind.
    "socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "sendto", "sendmsg", "sendmmsg", "recvmsg",
    # Other programs and processes.
    "execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev", "kill", "tkill", "tgkill", "pidfd_open",
    "pidfd_getfd", "pidfd_send_signal", "kcmp", "prlimit64", "setrlimit", "setpriority", "sched_setaffinity",
    # Changing files.
    "creat", "truncate", "ftruncate", "unlink", "unlinkat", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "rmdir",
    "link", "linkat", "symlink", "symlinkat", "mknod", "mknodat", "chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown",
    "fchownat", "utime", "utimes", "utimensat", "futimesat", "setxattr", "lsetxattr", "fsetxattr", "removexattr", "openat2",
    "memfd_create", "open_by_handle_at",
    # The system itself.
    "mount", "umount2", "pivot_root", "chroot", "unshare", "setns", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup",
    "io_uring_enter", "io_uring_register", "keyctl", "add_key", "request_key", "init_module", "finit_module", "delete_module",
    "kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff", "syslog", "acct", "settimeofday", "clock_settime",
    "adjtimex", "quotactl", "personality", "ioperm", "iopl", "setuid", "setgid", "setreuid", "setregid", "setresuid",
    "setresgid", "setgroups", "shmget", "shmat", "msgget", "semget", "mq_open", "inotify_init", "inotify_init1",
    "fanotify_init", "name_to_handle_at", "lookup_dcookie", "vmsplice", "move_pages", "migrate_pages",
)  # fmt: skip
_CLONE_THREAD: Final = 0x00010000


def available() -> bool:
    """Return whether the kernel's filter can be set up here."""
    try:
        import pyseccomp  # noqa: PLC0415  looks for libseccomp when it is imported, and that may be missing
    except (ImportError, OSError, RuntimeError):
        return False
    return bool(pyseccomp.get_api() >= 1)


def deny() -> None:
    """Deny this process, for good, every call that reading a file does not need; such a call fails with EPERM."""
    rules().load()


@functools.cache
def rules() -> Any:
    """Return the filter; made once, in the forkserver, because that takes longer than reading a small file."""
    import pyseccomp as seccomp  # noqa: PLC0415  see above

    made = seccomp.SyscallFilter(seccomp.ALLOW)
    refuse = seccomp.ERRNO(errno.EPERM)
    for name in _REFUSED:
        _add(made, refuse, name)
    # Threads are allowed (native libraries start some), processes are not; clone3 hides its flags from the filter,
    # and the C library takes clone where clone3 is not known.
    _add(made, refuse, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, _CLONE_THREAD, 0))
    _add(made, seccomp.ERRNO(errno.ENOSYS), "clone3")
    # Files are opened to be read.
    for flag in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC):
        _add(made, refuse, "open", seccomp.Arg(1, seccomp.MASKED_EQ, flag, flag))
        _add(made, refuse, "openat", seccomp.Arg(2, seccomp.MASKED_EQ, flag, flag))
    return made


def _add(made: Any, action: int, name: str, *arguments: Any) -> None:
    try:
        made.add_rule(action, name, *arguments)
    except ValueError:
        # This processor's table, or this libseccomp's, has no such call by this name.
        return
