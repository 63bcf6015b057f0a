"""Memory, files, processes and output without end."""

from ..attack import AT_BEST, BROKEN, FULL, NOTHING, attack, either


@attack(mean_of=either("memory", "timeout"))
def memory_bomb(scene):
    """Allocates and fills memory without end."""
    return scene.notebook(
        mean_of="""
        held = []
        def mean_of(x):
            while True:
                held.append(np.ones(2**21))
        """
    )


@attack(mean_of=AT_BEST)
def memory_bomb_in_a_cell(scene):
    """Allocates and fills memory without end while the answers are being defined."""
    return scene.notebook(
        mean_of="""
        def mean_of(x):
            return x.mean(axis=0)
        held = []
        while True:
            held.append(np.ones(2**21))
        """
    )


@attack(mean_of=BROKEN)
def memory_error_swallowed(scene):
    """Allocates memory, swallows every error about it, and keeps all it has got."""
    return scene.notebook(
        mean_of="""
        held = []
        def mean_of(x):
            size = 2**28
            while True:
                try:
                    held.append(bytearray(size))
                    held[-1][::4096] = b"x" * len(held[-1][::4096])
                except BaseException:
                    size = max(size // 2, 2**12)
        """
    )


@attack(mean_of=BROKEN)
def memory_in_many_processes(scene):
    """Takes a part of the memory in each of fifty processes."""
    return scene.notebook(
        mean_of="""
        import time
        def mean_of(x):
            for _ in range(50):
                try:
                    if os.fork() == 0:
                        kept = np.ones(2**23)
                        time.sleep(3600)
                except OSError:
                    pass
            time.sleep(3600)
        """
    )


@attack(mean_of=BROKEN)
def memory_in_shared_mappings(scene):
    """Takes memory that belongs to no process: shared mappings, anonymous files, /dev/shm."""
    return scene.notebook(
        mean_of="""
        import mmap
        held = []
        def mean_of(x):
            block = b"x" * 2**20
            while True:
                try:
                    held.append(mmap.mmap(-1, 2**26, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS))
                    held[-1].write(b"x" * 2**26)
                except (OSError, MemoryError, ValueError):
                    pass
                try:
                    held.append(os.memfd_create("x"))
                    for _ in range(64):
                        os.write(held[-1], block)
                except OSError:
                    pass
        """
    )


@attack(mean_of=NOTHING)
def files_without_end(scene):
    """Fills every writable directory with files, large ones and many."""
    return scene.notebook(
        mean_of="""
        def mean_of(x):
            places = ("/tmp", "/dev/shm", "/var/tmp", "/run", ".", os.path.expanduser("~"))
            places = [place for place in places if os.access(place, os.W_OK)]
            block, number = b"x" * 2**20, 0
            while True:
                for place in places:
                    number += 1
                    try:
                        with open(f"{place}/{know.mark}-{number}", "wb") as file:
                            for _ in range(number % 100):
                                file.write(block)
                    except OSError:
                        pass
                if number > 3000:
                    return np.zeros(3)
        """
    )


@attack(mean_of=FULL)
def sparse_files(scene):
    """Makes files that say they are terabytes long, and a directory a thousand levels deep."""
    return scene.notebook(
        first="""
        for place in ("/tmp", "/dev/shm"):
            try:
                with open(f"{place}/{know.mark}-sparse", "wb") as file:
                    os.truncate(file.fileno(), 2**40)
            except OSError:
                pass
        os.chdir("/tmp")
        for _ in range(1000):
            try:
                os.mkdir(know.mark)
                os.chdir(know.mark)
            except OSError:
                break
        """
    )


@attack(mean_of=NOTHING)
def descriptors_without_end(scene):
    """Opens files and pipes until no more can be opened."""
    return scene.notebook(
        mean_of="""
        held = []
        def mean_of(x):
            failed = 0
            while failed < 1000:
                try:
                    held.append(os.pipe())
                except OSError:
                    failed += 1
            return np.zeros(3)
        """
    )


@attack(mean_of=NOTHING)
def resource_limits_played_with(scene):
    """Raises its resource limits, and lowers them for whoever comes next."""
    return scene.notebook(
        mean_of="""
        import resource
        def mean_of(x):
            for name in dir(resource):
                if name.startswith("RLIMIT_"):
                    which = getattr(resource, name)
                    soft, hard = resource.getrlimit(which)
                    if hard != resource.RLIM_INFINITY and name.endswith(("NPROC", "FSIZE", "CPU", "DATA", "CORE")):
                        try:
                            resource.setrlimit(which, (hard, hard + 1000))
                            tell("a higher", name)
                        except (OSError, ValueError):
                            pass
                        try:
                            resource.setrlimit(which, (resource.RLIM_INFINITY,) * 2)
                            tell("no limit on", name)
                        except (OSError, ValueError):
                            pass
            for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
                resource.setrlimit(which, (resource.getrlimit(which)[1] // 2,) * 2)
            return np.zeros(3)
        """
    )


@attack()
def limits_that_choke(scene):
    """Sets its limits on files to nothing before the questions are asked."""
    return scene.notebook(
        first="""
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        """
    )


@attack(mean_of=either("graded", "timeout"))
def sleeps_out_its_time(scene):
    """Sleeps in every call just below the time limit of one call."""
    return scene.notebook(
        mean_of="""
        import time
        def mean_of(x):
            time.sleep(1.2)
            return np.zeros(3)
        """
    )


@attack(mean_of=AT_BEST, others=AT_BEST)
def slow_cells(scene):
    """Sleeps in a cell until its limit on time is over."""
    return scene.notebook(first="import time\ntime.sleep(3600)")


@attack(mean_of=NOTHING)
def system_v_objects(scene):
    """Makes shared memory, semaphores and message queues that outlive their process."""
    return scene.notebook(
        mean_of="""
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        def mean_of(x):
            for number in range(100):
                libc.shmget(0x62A7 + number, 2**24, 0o1666)
                libc.semget(0x62A7 + number, 10, 0o1666)
                libc.msgget(0x62A7 + number, 0o1666)
            libc.mq_open(b"/" + know.mark.encode(), os.O_CREAT | os.O_RDWR, 0o666, None)
            return np.zeros(3)
        """
    )


@attack(mean_of=BROKEN)
def signals_without_end(scene):
    """Queues signals and timers for itself without end."""
    return scene.notebook(
        mean_of="""
        import signal, time
        def mean_of(x):
            signal.signal(signal.SIGUSR1, lambda *args: os.kill(os.getpid(), signal.SIGUSR1))
            signal.setitimer(signal.ITIMER_VIRTUAL, 1e-6, 1e-6)
            os.kill(os.getpid(), signal.SIGUSR1)
            while True:
                os.kill(os.getpid(), signal.SIGUSR1)
        """
    )


@attack(mean_of=BROKEN)
def memory_in_the_kernel(scene):
    """Fills the buffers of pipes and sockets in many processes: memory that is nobody's."""
    return scene.notebook(
        mean_of="""
        import fcntl, socket, time
        def fill():
            held = []
            while True:
                try:
                    pipe = os.pipe()
                    held.append(pipe)
                    fcntl.fcntl(pipe[1], 1031, 2**20)
                    os.set_blocking(pipe[1], False)
                    while True:
                        os.write(pipe[1], bytes(65536))
                except OSError as error:
                    if error.errno == 24:
                        break
            time.sleep(3600)
        def mean_of(x):
            for _ in range(40):
                try:
                    if os.fork() == 0:
                        fill()
                except OSError:
                    pass
            time.sleep(1)
            return np.zeros(3)
        """
    )


@attack(mean_of=AT_BEST)
def many_busy_processes(scene):
    """Keeps every processor busy from forty processes in sessions of their own."""
    return scene.notebook(
        first="""
        import time
        for _ in range(40):
            try:
                if os.fork() == 0:
                    os.setsid()
                    while True: pass
            except OSError:
                pass
        """
    )
