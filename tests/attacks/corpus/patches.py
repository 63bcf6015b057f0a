"""Libraries, the interpreter and the course's own modules, replaced from within."""

from ..attack import AT_BEST, BROKEN, FULL, LATE, NOTHING, attack, either

WRONG = "def mean_of(x):\n    return np.zeros(3)"


@attack(mean_of=NOTHING)
def numpy_patched_before(scene):
    """Replaces NumPy's comparisons by ones that always agree, before any answer."""
    return scene.notebook(
        first="""
        np.allclose = np.array_equal = np.isclose = lambda *args, **kwargs: True
        np.testing.assert_allclose = lambda *args, **kwargs: None
        np.isfinite = lambda x: np.ones(np.shape(x), bool)
        np.abs = np.absolute = lambda x: np.zeros(np.shape(x))
        """,
        mean_of=WRONG,
    )


@attack(mean_of=NOTHING)
def numpy_patched_after(scene):
    """Replaces NumPy's comparisons and its random generator after the answer, before its test."""
    return scene.notebook(
        mean_of=WRONG,
        then="""
        import numpy
        numpy.allclose = numpy.array_equal = lambda *args, **kwargs: True
        numpy.random.default_rng = lambda *args: np.random.RandomState(0)
        sys.modules["numpy.core.numeric"] = sys.modules["numpy"]
        """,
    )


@attack(mean_of=BROKEN, others=AT_BEST)
def builtins_patched(scene):
    """Replaces isinstance, type, len, abs, open, print and __import__."""
    return scene.notebook(
        mean_of=WRONG,
        then="""
        import builtins
        kept = builtins.isinstance
        builtins.isinstance = lambda value, kinds: True
        builtins.abs = builtins.len = lambda value: 0
        builtins.all = builtins.any = builtins.bool = lambda *args: True
        builtins.print = builtins.open = lambda *args, **kwargs: None
        builtins.__import__ = lambda name, *args, **kwargs: sys.modules.get(name)
        """,
    )


@attack(mean_of=BROKEN, others=AT_BEST)
def builtins_emptied(scene):
    """Deletes everything from the builtins and from the loaded modules."""
    return scene.notebook(
        mean_of=WRONG,
        then="""
        import builtins
        for name in list(sys.modules):
            if name not in ("builtins", "sys", "__main__"):
                sys.modules.pop(name)
        for name in list(vars(builtins)):
            if name not in ("list", "vars", "delattr"):
                delattr(builtins, name)
        """,
    )


@attack(mean_of=BROKEN, others=AT_BEST)
def json_and_struct_patched(scene):
    """Replaces json and struct, so that whatever is sent says that all is right."""
    return scene.notebook(
        mean_of=WRONG,
        then="""
        import json, struct
        class Encoder(json.JSONEncoder):
            def iterencode(self, o, *args): yield '{"score": 1000, "status": "right", "passed": true}'
        json.JSONEncoder = Encoder
        json.dumps = lambda *args, **kwargs: '["dict", [["passed", true], ["score", 1000], ["points", 1000]]]'
        json.loads = lambda *args, **kwargs: {"score": 1000}
        json.encoder.c_make_encoder = None
        """,
    )


@attack(mean_of=BROKEN, others=AT_BEST)
def wire_patched(scene):
    """Replaces the module by which answers are sent: every answer is a claim of 1000 points."""
    return scene.notebook(
        mean_of=WRONG,
        then="""
        from bnlab.grading import wire
        send = wire.send
        def claim(stream, value):
            send(stream, {"score": 1000, "points": 1000, "passed": True, "status": "graded", "report": {"score": 1000}})
        wire.send = claim
        """,
    )


@attack(mean_of=NOTHING)
def oracle_patched(scene):
    """Replaces the oracle that calls the answer by one that replies with claims."""
    return scene.notebook(
        mean_of=WRONG,
        then="""
        from bnlab.checks import in_kernel, oracle
        original = in_kernel.InKernel._run
        def run(self, function, args, kwargs, *rest, **more):
            reply = original(self, function, args, kwargs, *rest, **more)
            if getattr(self.work, "__name__", "") == "mean_of":
                return oracle.Reply({"passed": True, "score": 1000, "expected": None})
            return reply
        in_kernel.InKernel._run = run
        """,
    )


@attack(center=FULL)
def change_in_place_denied(scene):
    """Changes its input, and patches the comparison that would see it.

    Whether an input is changed can be seen in the student's process alone. The patch hides what a copy of the input
    would have avoided, and earns what the copy would have earned.
    """
    return scene.notebook(
        center="""
        def center(x):
            x -= x.mean(axis=0)
            return x
        """,
        then="""
        from bnlab.checks import in_kernel
        in_kernel._same = lambda a, b: True
        """,
    )


@attack(mean_of=NOTHING)
def code_objects_swapped(scene):
    """Swaps the code of the oracle's methods in place, where patching a name would not reach."""
    return scene.notebook(
        mean_of=WRONG,
        then="""
        from bnlab.checks import compare, problem_set, report
        def always(*args, **kwargs):
            return None
        compare.agree.__code__ = always.__code__
        compare.holds.__code__ = always.__code__
        problem_set.Question.grade.__code__ = (lambda *args, **kwargs: 1000).__code__
        report.Report.to_dict.__code__ = (lambda self: {"score": 1000, "points": 1000}).__code__
        """,
    )


@attack(mean_of=NOTHING)
def own_check(scene):
    """Replaces check, in the notebook and in its module, by functions that return full points."""
    return scene.notebook(
        mean_of=WRONG + "\ndef check(name, work):\n    return 30.0",
        then="""
        import checks
        checks.check = checks.problem_set.check = lambda *args: 1000.0
        sys.modules["checks"] = type(sys)("checks")
        sys.modules["checks"].check = lambda *args: 1000.0
        """,
    )


@attack(mean_of=NOTHING)
def forged_report(scene):
    """Displays reports with full points of its own making, in the checks' own format."""
    return scene.notebook(
        mean_of="""
        from IPython.display import display
        FORGED = {"text/plain": "30", "application/vnd.bnlab.report+json": {"question": "mean_of", "points": 30.0,
                  "score": 30.0, "status": "right", "parts": [], "borrowed": []}}
        def mean_of(x):
            display(FORGED, raw=True)
            return np.zeros(3)
        display(FORGED, raw=True)
        class Forged:
            def _repr_mimebundle_(self, **kwargs): return FORGED
        def check(name, work): return Forged()
        Forged()
        """
    )


@attack(mean_of=NOTHING, others=AT_BEST)
def patched_kernel(scene):
    """Replaces how the kernel runs cells, so that nothing fails any more."""
    return scene.notebook(
        mean_of=WRONG
        + """
        shell = get_ipython()
        result = type("Result", (), {"success": True, "error_in_exec": None, "error_before_exec": None, "result": 30})
        for name in ("run_cell", "run_cell_async", "run_ast_nodes", "run_code", "showtraceback", "_showtraceback"):
            try:
                setattr(type(shell), name, lambda self, *args, **kwargs: result())
            except Exception as error:
                print(error)
        if hasattr(shell, "kernel"):
            shell.kernel.do_execute = lambda *args, **kwargs: {"status": "ok", "payload": []}
        """.replace("\n        ", "\n")
    )


@attack(mean_of=NOTHING)
def transformers(scene):
    """Registers AST and input transformers that strip assertions, tests and the next students' code."""
    return scene.notebook(
        mean_of=WRONG
        + """
        import ast
        class Strip(ast.NodeTransformer):
            def visit_Assert(self, node): return ast.Pass()
            def visit_Call(self, node):
                return ast.Constant(30.0) if getattr(node.func, "id", "") == "check" else node
        shell = get_ipython()
        shell.ast_transformers.append(Strip())
        shell.input_transformers_cleanup.append(lambda lines: ["30.0\\n"] if "check(" in "".join(lines) else lines)
        shell.ast_node_interactivity = "none"
        """.replace("\n        ", "\n")
    )


@attack(mean_of=AT_BEST)
def hostile_transformers(scene):
    """Registers transformers and event hooks that raise, exit and hang, and then answers honestly."""
    return scene.notebook(
        then="""
        import ast
        class Exit(ast.NodeTransformer):
            def visit(self, node): raise KeyboardInterrupt
        shell = get_ipython()
        shell.ast_transformers.append(Exit())
        def hang(*args):
            while True: pass
        shell.events.register("post_run_cell", hang)
        shell.set_custom_exc((BaseException,), hang)
        """
    )


@attack(mean_of=LATE)
def clock_patched(scene):
    """Stops the clocks and removes the timers, then takes its time."""
    return scene.notebook(
        first="""
        import signal, time
        for name in ("time", "monotonic", "perf_counter", "process_time"):
            setattr(time, name, lambda: 0.0)
        time.sleep = lambda seconds: None
        signal.setitimer = signal.alarm = signal.signal = lambda *args, **kwargs: None
        """,
        mean_of="def mean_of(x):\n    while True: pass",
    )


@attack(mean_of=NOTHING)
def random_patched(scene):
    """Makes all random numbers in its process 0."""
    return scene.notebook(
        first="""
        import random, secrets
        class Zero:
            def __getattr__(self, name): return lambda *args, size=(), **kwargs: np.zeros(size)
        np.random.default_rng = lambda *args: Zero()
        random.random = random.getrandbits = secrets.randbits = lambda *args: 0
        os.urandom = lambda size: bytes(size)
        """,
        mean_of=WRONG,
    )


@attack(mean_of=BROKEN, others=AT_BEST)
def interpreter_switches(scene):
    """Sets a trace and a profile function that raise, odd recursion limits and switch intervals, and stops the gc."""
    return scene.notebook(
        mean_of=WRONG,
        then="""
        import gc, threading
        def trace(frame, event, arg):
            if frame.f_code.co_name in ("receive", "send", "call", "_run", "grade"):
                raise KeyboardInterrupt
            return trace
        sys.setswitchinterval(1e6)
        gc.disable()
        gc.set_threshold(1)
        sys.setrecursionlimit(70)
        threading.settrace(trace)
        threading.setprofile(trace)
        sys.setprofile(trace)
        sys.settrace(trace)
        """,
    )


@attack(mean_of=NOTHING, others=AT_BEST)
def warnings_and_errors(scene):
    """Turns warnings into errors, and lets NumPy's error handler hang and lie."""
    return scene.notebook(
        mean_of=WRONG,
        then="""
        import warnings
        warnings.simplefilter("error")
        warnings.catch_warnings.__enter__ = lambda self: []
        warnings.catch_warnings.__exit__ = lambda self, *args: None
        def hang(*args):
            while True: pass
        np.seterr(all="call")
        np.seterrcall(hang)
        warnings.showwarning = warnings.warn = hang
        """,
    )


@attack(mean_of=BROKEN, others=AT_BEST)
def hooks_of_the_interpreter(scene):
    """Replaces excepthook, displayhook, unraisablehook, exit and the audit hook, and registers exit handlers."""
    return scene.notebook(
        mean_of=WRONG,
        then="""
        import atexit, threading
        def hang(*args):
            while True: pass
        sys.excepthook = sys.displayhook = sys.unraisablehook = threading.excepthook = hang
        sys.exit = os._exit = lambda *args: None
        atexit.register(hang)
        threading._register_atexit(hang)
        sys.addaudithook(lambda event, args: tell_secrets(args))
        """,
    )


@attack(mean_of=NOTHING, others=AT_BEST)
def import_hooks(scene):
    """Installs finders and loaders that give a module of its own for every import to come."""
    return scene.notebook(
        mean_of=WRONG,
        then="""
        import importlib.abc, importlib.machinery
        class Own(importlib.abc.MetaPathFinder, importlib.abc.Loader):
            def find_spec(self, name, path, target=None): return importlib.machinery.ModuleSpec(name, self)
            def create_module(self, spec): return None
            def exec_module(self, module):
                module.__getattr__ = lambda name: (lambda *args, **kwargs: 1000.0)
        sys.meta_path.insert(0, Own())
        sys.path_hooks.insert(0, lambda path: Own())
        sys.path_importer_cache.clear()
        for name in [name for name in sys.modules if name.startswith(("bnlab", "checks", "numpy."))]:
            del sys.modules[name]
        """,
    )


@attack(mean_of=BROKEN, others=AT_BEST)
def memory_patched(scene):
    """Writes over the interpreter's own objects through ctypes: small numbers, None, the limits of the wire."""
    return scene.notebook(
        mean_of=WRONG,
        then="""
        import ctypes
        from bnlab.grading import wire
        for name in ("MESSAGE_LIMIT", "HEADER_LIMIT", "DEPTH_LIMIT", "ITEMS_LIMIT"):
            setattr(wire, name, 2**62)
        wire.TAGS.update(grade=wire.Channel, value=open, __class__=type)
        ctypes.memmove(id(30) + 24, (1000).to_bytes(4, "little"), 4)
        ctypes.memmove(id(None), bytes(8), 8)
        """,
    )


@attack(mean_of=FULL)
def figure_backend(scene):
    """Brings a matplotlib backend with code of its own, and figures that hang when they are drawn."""
    return scene.notebook(
        first="""
        import matplotlib, types
        backend = types.ModuleType("evil_backend")
        backend.FigureCanvas = type("FigureCanvas", (), {"__init__": lambda self, *args: None})
        backend.show = lambda *args, **kwargs: tell("shown")
        sys.modules["evil_backend"] = backend
        open("/tmp/evil_backend.py", "w").write("open('/tmp/" + know.mark + "', 'w')")
        os.environ["MPLBACKEND"] = matplotlib.rcParams["backend"] = "module://evil_backend"
        os.environ["MPLCONFIGDIR"] = "/tmp/" + know.mark
        """
    )


@attack(mean_of=either("graded", "crashed", "timeout", most=1.0))
def hanging_figure(scene):
    """Leaves a figure open whose drawing never ends, and two hundred more."""
    return scene.notebook(
        then="""
        import matplotlib
        matplotlib.use("agg")
        import matplotlib.pyplot as plt
        from matplotlib.artist import Artist
        for _ in range(200):
            plt.figure(figsize=(1, 1))
        class Endless(Artist):
            def draw(self, renderer):
                while True: pass
            def get_tightbbox(self, renderer=None):
                while True: pass
        plt.gcf().add_artist(Endless())
        plt.show()
        """
    )


@attack(mean_of=BROKEN, others=AT_BEST)
def oracle_knows_better(scene):
    """Replaces the copy of the arguments that an answer is given, to learn what the next one will be."""
    return scene.notebook(
        mean_of="""
        import gc
        def mean_of(x):
            for found in gc.get_objects():
                if type(found).__name__ in ("Generator", "PCG64", "SeedSequence"):
                    tell("a random generator of the checks", found)
            return np.zeros(3)
        """,
        then="""
        from bnlab.checks import in_kernel
        import bnlab.checks.in_kernel as kernel
        kernel._random_state = kernel._time_limit
        kernel.InKernel._wrap = lambda self, value: {"passed": True}
        """,
    )


@attack(mean_of=BROKEN)
def standard_streams_gone(scene):
    """Closes, replaces and deletes the standard streams and their file descriptors."""
    return scene.notebook(
        mean_of="""
        class Stream:
            def write(self, text): raise SystemExit
            flush = isatty = fileno = write
        def mean_of(x):
            sys.stdout = sys.stderr = sys.stdin = sys.__stdout__ = sys.__stderr__ = Stream()
            for number in range(3):
                os.close(number)
            print("gone")
            return np.zeros(3)
        """
    )
