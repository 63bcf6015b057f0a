"""Threads, processes and signals; code that never ends."""

from ..attack import AT_BEST, BROKEN, LATE, LOST, NOTHING, attack, either

SPOILED = either("graded", "crashed", "timeout", most=1.0)


@attack(mean_of=NOTHING)
def thread_that_patches_later(scene):
    """Starts a thread that replaces NumPy, the checks and the oracle while questions are being asked."""
    return scene.notebook(
        mean_of="""
        import threading, time
        def patch():
            import checks
            from bnlab.checks import compare
            while True:
                np.allclose = np.array_equal = lambda *args, **kwargs: True
                compare.agree = compare.holds = checks.check = lambda *args, **kwargs: 30.0
                time.sleep(0.001)
        threading.Thread(target=patch, daemon=True).start()
        def mean_of(x):
            time.sleep(0.01)
            return np.zeros(3)
        """
    )


@attack(mean_of=AT_BEST)
def threads_that_never_end(scene):
    """Starts ordinary threads that loop forever and keep the process alive."""
    return scene.notebook(
        first="""
        import threading, time
        def loop():
            while True: time.sleep(0.001)
        for _ in range(4):
            threading.Thread(target=loop, daemon=False).start()
        """
    )


@attack(mean_of=BROKEN, others=AT_BEST)
def thread_bomb(scene):
    """Starts threads without end."""
    return scene.notebook(
        mean_of="""
        import threading, time
        def mean_of(x):
            while True:
                threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
        """
    )


@attack(mean_of=LATE)
def fork_bomb(scene):
    """Forks without end, from every child too."""
    return scene.notebook(
        mean_of="""
        def mean_of(x):
            while True:
                try:
                    os.fork()
                except OSError:
                    pass
        """
    )


@attack()
def daemon_that_outlives(scene):
    """Leaves a process behind, forked twice, in a session of its own, ignoring every signal."""
    return scene.notebook(
        first="""
        import signal, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for number in range(1, 65):
                    try:
                        signal.signal(number, signal.SIG_IGN)
                    except (OSError, ValueError):
                        pass
                end = time.monotonic() + 60
                while time.monotonic() < end:
                    time.sleep(0.01)
                    try:
                        open(f"/tmp/{know.mark}-daemon", "w").write("still here")
                    except OSError:
                        pass
            os._exit(0)
        os.wait()
        """
    )


@attack()
def program_left_behind(scene):
    """Starts a shell in the background that loops forever."""
    return scene.notebook(
        first="""
        import subprocess
        for _ in range(3):
            subprocess.Popen(["/bin/sh", "-c", "trap '' TERM INT HUP; while :; do sleep 1; done"],
                             start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        """
    )


@attack(mean_of=LOST)
def exit_in_call(scene):
    """Ends its process inside the call."""
    return scene.notebook(mean_of="def mean_of(x):\n    os._exit(0)")


@attack(mean_of=LOST, others=AT_BEST)
def exit_in_cell(scene):
    """Ends its process while the answers are being defined."""
    return scene.notebook(mean_of="def mean_of(x):\n    return x.mean(axis=0)\nos._exit(0)")


@attack(mean_of=NOTHING)
def system_exit(scene):
    """Raises SystemExit in the call, with an exit status that says all is well."""
    return scene.notebook(mean_of="def mean_of(x):\n    sys.exit(0)")


@attack(mean_of=AT_BEST)
def system_exit_in_cell(scene):
    """Raises SystemExit, KeyboardInterrupt and GeneratorExit in cells."""
    return scene.notebook(first="raise KeyboardInterrupt", then="raise SystemExit('all is well')")


@attack(mean_of=NOTHING)
def keyboard_interrupt(scene):
    """Raises KeyboardInterrupt in the call."""
    return scene.notebook(mean_of="def mean_of(x):\n    raise KeyboardInterrupt")


@attack(mean_of=LATE)
def swallows_everything(scene):
    """Loops forever and swallows every exception there is."""
    return scene.notebook(
        mean_of="""
        def mean_of(x):
            while True:
                try:
                    while True:
                        try:
                            while True: pass
                        except BaseException:
                            continue
                except BaseException:
                    continue
        """
    )


@attack(mean_of=LATE)
def ignores_signals(scene):
    """Blocks and ignores every signal and loops forever."""
    return scene.notebook(
        mean_of="""
        import signal
        def mean_of(x):
            for number in range(1, 65):
                try:
                    signal.signal(number, signal.SIG_IGN)
                except (OSError, ValueError):
                    pass
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
            signal.setitimer(signal.ITIMER_REAL, 0)
            while True: pass
        """
    )


@attack(mean_of=LATE)
def loops_in_a_signal_handler(scene):
    """Loops forever inside the handler of the very signal that should stop it."""
    return scene.notebook(
        mean_of="""
        import signal
        def handler(number, frame):
            while True:
                try:
                    while True: pass
                except BaseException:
                    pass
        def mean_of(x):
            for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT, signal.SIGXCPU):
                signal.signal(number, handler)
            os.kill(os.getpid(), signal.SIGALRM)
            return np.zeros(3)
        """
    )


@attack(mean_of=LATE)
def loops_in_c(scene):
    """Computes in C for ages, where no Python signal handler runs."""
    return scene.notebook(mean_of="def mean_of(x):\n    return sum(range(10**15))")


@attack(mean_of=LATE)
def loops_in_a_regular_expression(scene):
    """Matches a regular expression that backtracks for ages."""
    return scene.notebook(mean_of="def mean_of(x):\n    return re.match('(a*)*b', 'a' * 64)")


@attack(mean_of=LATE)
def loops_in_a_large_power(scene):
    """Raises an integer to a power with a billion digits."""
    return scene.notebook(mean_of="def mean_of(x):\n    return 3 ** (3 ** 30)")


@attack(mean_of=LATE)
def loops_with_the_lock_held(scene):
    """Sleeps in C without giving the interpreter's lock back."""
    return scene.notebook(
        mean_of="""
        import ctypes
        def mean_of(x):
            ctypes.PyDLL(None).sleep(3600)
        """
    )


@attack(mean_of=LATE, others=AT_BEST)
def loops_in_a_cell(scene):
    """Loops forever while the answers are being defined, and swallows what would stop it."""
    return scene.notebook(
        mean_of="""
        def mean_of(x):
            return x.mean(axis=0)
        while True:
            try:
                while True: pass
            except BaseException:
                pass
        """
    )


@attack(mean_of=SPOILED)
def sleeps_at_exit(scene):
    """Answers, and hangs when its process ends: in an exit handler, in a thread, in a finalizer."""
    return scene.notebook(
        then="""
        import atexit, threading, time, weakref
        class Thing: pass
        thing = Thing()
        weakref.finalize(thing, time.sleep, 3600)
        atexit.register(time.sleep, 3600)
        threading.Thread(target=time.sleep, args=(3600,)).start()
        """
    )


@attack(mean_of=BROKEN)
def stops_itself(scene):
    """Stops its own process, so that nothing ends and nothing answers."""
    return scene.notebook(
        mean_of="import signal\ndef mean_of(x):\n    os.kill(os.getpid(), signal.SIGSTOP)\n    return np.zeros(3)"
    )


@attack(mean_of=BROKEN, others=AT_BEST)
def stops_its_parent(scene):
    """Stops, kills and interrupts its parent and its process group."""
    return scene.notebook(
        mean_of="""
        import signal
        def mean_of(x):
            for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
                for target in (lambda: os.kill(os.getppid(), number), lambda: os.killpg(0, number)):
                    try:
                        if os.getppid():
                            target()
                    except OSError:
                        pass
            return np.zeros(3)
        """
    )


@attack(mean_of=BROKEN, others=AT_BEST)
def kills_everything(scene):
    """Kills every process that it may signal, process 1 and the grader by its number."""
    return scene.notebook(
        mean_of="""
        import signal
        def mean_of(x):
            for target in (1, 2, know.grader, os.getppid() or 1, -1):
                for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
                    try:
                        os.kill(target, number)
                    except OSError:
                        pass
            return np.zeros(3)
        """
    )


@attack(mean_of=BROKEN)
def killed_by_itself(scene):
    """Kills its own process with the signal that memory limits use."""
    return scene.notebook(mean_of="import signal\ndef mean_of(x):\n    os.kill(os.getpid(), signal.SIGKILL)")


@attack(mean_of=LOST)
def segmentation_fault(scene):
    """Reads from address 0."""
    return scene.notebook(mean_of="import ctypes\ndef mean_of(x):\n    return ctypes.string_at(0)")


@attack(mean_of=LOST)
def stack_overflow(scene):
    """Recurses through C code until the stack overflows."""
    return scene.notebook(
        mean_of="""
        class Deep:
            def __repr__(self):
                return repr(Deep()) + ""
        def mean_of(x):
            sys.setrecursionlimit(2**31 - 1)
            return repr(Deep())
        """
    )


@attack(mean_of=LOST)
def answers_from_two_processes(scene):
    """Forks inside the call, so that two processes answer, and the second answer meets the next question."""
    return scene.notebook(
        mean_of="""
        def mean_of(x):
            os.fork()
            return np.zeros(3)
        """
    )


@attack(mean_of=BROKEN)
def answers_from_its_child(scene):
    """Lets a child process answer while the parent hangs."""
    return scene.notebook(
        mean_of="""
        import time
        def mean_of(x):
            if os.fork():
                time.sleep(3600)
            return np.zeros(3)
        """
    )


@attack(mean_of=LOST)
def becomes_another_program(scene):
    """Replaces its process by a shell that writes to every file descriptor."""
    return scene.notebook(
        mean_of="""
        def mean_of(x):
            for number in range(3, 64):
                try:
                    os.set_inheritable(number, True)
                except OSError:
                    pass
            os.execv("/bin/sh", ["sh", "-c", "for n in 3 4 5 6 7 8 9; do echo all is well >&$n; done; sleep 3600"])
        """
    )


@attack(mean_of=NOTHING)
def reads_other_processes(scene):
    """Attaches to its parent and reads its memory, through ptrace, process_vm_readv, /proc and pidfd_getfd."""
    return scene.notebook(
        mean_of="""
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        def mean_of(x):
            others = {os.getppid(), 1, 2, know.grader} - {0, os.getpid()}
            for pid in others:
                if libc.ptrace(16, pid, None, None) == 0:
                    tell("ptrace of", pid)
                    libc.ptrace(17, pid, None, None)
                for name in ("mem", "environ", "maps", "cmdline", "root", "cwd", "fd", "auxv"):
                    try:
                        path = f"/proc/{pid}/{name}"
                        if name in ("root", "cwd"):
                            found = os.listdir(path)
                        elif name == "fd":
                            found = [os.readlink(f"{path}/{entry}") for entry in os.listdir(path)]
                        else:
                            found = open(path, "rb").read(100_000)
                        tell_secrets(found, path)
                    except OSError:
                        pass
                for number in range(20):
                    fd = libc.syscall(438, libc.syscall(434, pid, 0), number, 0)
                    if fd >= 0:
                        tell("file descriptor", number, "of", pid)
            return np.zeros(3)
        """
    )


@attack()
def priorities(scene):
    """Takes all the time it can: real-time scheduling, higher priority, other processors."""
    return scene.notebook(
        first="""
        for attempt in (
            lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)),
            lambda: os.setpriority(os.PRIO_PROCESS, 0, -20),
            lambda: os.nice(-20),
        ):
            try:
                attempt()
                tell("a higher priority")
            except OSError:
                pass
        os.nice(19)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        os.umask(0)
        """
    )
