"""What the process of one submission takes away from itself, on Linux, before it runs a line of a student's code.

Namespaces and mounts are its room, the user id and the capabilities its rights, the resource limits its share, Landlock
and seccomp the second wall where the kernel has them. Everything here is called once, in the order in which it stands,
by a process that still may; afterwards it may not any more.
"""

import ctypes
import os
import platform
import resource
import struct
from dataclasses import dataclass, fields

try:
    import sandlock
except ImportError:  # it is made for Linux alone
    sandlock = None

ROOM = "/submission"  # the home and working directory of a submission behind bubblewrap
CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWIPC = 0x00020000, 0x20000000, 0x08000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 22, 47, 4
CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    Attributes
    ----------
    cell_seconds, question_seconds, submission_seconds : float
        Wall time of one cell, of all calls that the checks make for one question, and of everything together.
    memory : int
        Bytes that all its processes may hold together, beyond what the libraries take.
    processes : int
        Processes and threads at one time.
    file_bytes : int
        Bytes of one file, and of each directory that a submission can write to. They are kept in memory.
    output_bytes : int
        Bytes of all outputs of all cells that are kept for the executed notebook; what is beyond is cut off.
    """

    cell_seconds: float = 30.0
    question_seconds: float = 120.0
    submission_seconds: float = 900.0
    memory: int = 2 * 2**30
    processes: int = 64
    file_bytes: int = 64 * 2**20
    output_bytes: int = 4 * 2**20

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ValueError(f"the limit {field.name} is {value!r}, expected a number greater than 0")


def _checked(name: str, *args: object) -> None:
    if getattr(_libc, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def new_namespaces() -> None:
    """Put the children of this process into namespaces of their own: of processes and of System V IPC."""
    _checked("unshare", CLONE_NEWPID | CLONE_NEWIPC)


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends, so that none gets away."""
    _checked("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def own_mounts(limits: Limits, hides_tmp: bool) -> None:
    """Mount /proc of the own processes, and empty directories that nobody else sees.

    Parameters
    ----------
    limits : Limits
    hides_tmp : bool
        Whether /tmp is one of them. If not, it can't be written to.
    """
    _checked("unshare", CLONE_NEWNS)
    _checked("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    hidden = MS_NOSUID | MS_NODEV
    _checked("mount", b"proc", b"/proc", b"proc", hidden | MS_NOEXEC, None)
    _checked("mount", None, b"/dev", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC, None)
    size = f"size={limits.file_bytes},nr_inodes=10000".encode()
    for place in (ROOM, "/dev/shm", *(["/tmp"] if hides_tmp else [])):
        _checked("mount", b"tmpfs", place.encode(), b"tmpfs", hidden, size)


def drop_rights(uid: int) -> None:
    """Become an ordinary user without any capability, for good."""
    if os.getuid() == 0 and uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _checked("capset", struct.pack("<II", CAPABILITY_VERSION_3, 0), bytes(24))
    _checked("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def limit_resources(limits: Limits) -> None:
    """Set the limits that the kernel keeps itself; memory over all processes is the keeper's business."""
    with open("/proc/self/status") as status:
        data = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
    cpu = int(limits.submission_seconds) + 1
    for what, most in (
        (resource.RLIMIT_DATA, data + limits.memory),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def confine_files() -> bool:
    """Landlock: read what is there, write to the own directories alone. Whether the kernel has it."""
    if sandlock is None or sandlock.landlock_abi_version() < sandlock.min_landlock_abi():
        return False
    writable = [place for place in (ROOM, "/tmp", "/dev/shm", "/dev/null") if os.path.exists(place)]
    sandlock.confine(sandlock.Sandbox(fs_readable=["/"], fs_writable=writable))
    return True


# --- seccomp ---------------------------------------------------------------------------------------------------------

# System calls that no exercise needs: ways to hold memory that no limit counts, to reach other processes, to make
# namespaces and mounts, and parts of the kernel that are known for their bugs. By machine: x86_64, aarch64.
REFUSED = {
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "socket": (41, 198),
}
CLONE, CLONE3 = (56, 220), (435, 435)
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # instructions of the classic packet filter
ALLOW, KILL, NOT_PERMITTED, UNKNOWN = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026  # the last two: EPERM, ENOSYS
NAMESPACES = 0x7E020000  # all of clone's flags CLONE_NEW*
X32 = 0x40000000  # system calls of x86's second ABI have numbers from here


def refuse_system_calls() -> bool:
    """Let the calls in `REFUSED` fail with "operation not permitted". Whether the machine is one we know."""
    if platform.machine() not in MACHINES:
        return False
    column, architecture = MACHINES[platform.machine()]
    numbers = sorted(pair[column] for pair in REFUSED.values())
    # Each instruction: code, lines to skip if true, lines to skip if false, constant.
    program = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    program += [(AT_LEAST, len(numbers) + 6, 0, X32)]
    program += [(EQUAL, len(numbers) + 5 - place, 0, number) for place, number in enumerate(numbers)]
    # clone3 keeps its flags where a filter can't look: glibc goes on with clone where there is none.
    program += [(EQUAL, 0, 1, CLONE3[column]), (RETURN, 0, 0, UNKNOWN)]
    program += [(EQUAL, 0, 2, CLONE[column]), (LOAD, 0, 0, 16), (ANY_BIT, 1, 0, NAMESPACES)]
    program += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, NOT_PERMITTED)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *line) for line in program))
    header = struct.pack("<HxxxxxxQ", len(program), ctypes.addressof(code))
    _checked("prctl", PR_SET_SECCOMP, 2, header, 0, 0)
    return True
