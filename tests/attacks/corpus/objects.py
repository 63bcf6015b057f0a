"""Returned objects that aren't what they say."""

from ..attack import AT_BEST, BROKEN, NOTHING, attack


@attack(mean_of=NOTHING)
def always_equal(scene):
    """Returns an object that is equal to everything, close to everything, and true."""
    return scene.notebook(
        mean_of="""
        class Equal:
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            def __lt__(self, other): return True
            __le__ = __gt__ = __ge__ = __lt__
            def __bool__(self): return True
            def __sub__(self, other): return 0
            def __rsub__(self, other): return 0
            def __abs__(self): return 0
            def __float__(self): return 0.0
            def __len__(self): return 3
            def __iter__(self): return iter([0.0] * 3)
            def __getitem__(self, key): return 0.0
            def __hash__(self): return 0
        def mean_of(x):
            return Equal()
        """
    )


@attack(mean_of=NOTHING, center=NOTHING)
def fake_array(scene):
    """Returns an object with an array's attributes, and one that makes itself whatever it is compared with."""
    return scene.notebook(
        mean_of="""
        class Fake:
            shape, ndim, size, dtype, itemsize = (3,), 1, 3, np.dtype(float), 8
            __array_priority__ = 1e9
            def __array__(self, *args, **kwargs): return np.zeros(3)
            def __array_ufunc__(self, *args, **kwargs): return np.bool_(True)
            def __array_function__(self, *args, **kwargs): return True
            def __getattr__(self, name): return lambda *args, **kwargs: True
        def mean_of(x):
            return Fake()
        """,
        center="""
        class Mirror(np.ndarray):
            def __array_ufunc__(self, *args, **kwargs): return np.True_
            def __array_function__(self, *args, **kwargs): return True
            def __array_finalize__(self, other): pass
            def __eq__(self, other): return np.True_
            def copy(self, *args): return self
            def astype(self, *args, **kwargs): return self
            def tobytes(self, *args): return b"\\0" * 8 * 15
            shape = property(lambda self: (5, 3))
        def center(x):
            return np.zeros((5, 3)).view(Mirror)
        """,
    )


@attack(mean_of=NOTHING, center=NOTHING, scale=NOTHING)
def lying_class(scene):
    """Returns objects whose __class__ says ndarray, float and tuple, so that isinstance believes them."""
    return scene.notebook(
        first="""
        def lie(kind):
            class Liar:
                __class__ = property(lambda self: kind)
                shape, dtype, ndim = (3,), np.dtype("f8"), 1
                def __array__(self, *args, **kwargs): return np.zeros(3)
                def __iter__(self): return iter([1.0, 2.0, 3.0])
                def __eq__(self, other): return True
                def __float__(self): return 1.0
                def copy(self): return self
                def item(self): return self
            return Liar()
        """,
        mean_of="def mean_of(x):\n    return lie(np.ndarray)",
        center="def center(x):\n    return lie(np.float64)",
        scale="def scale(x):\n    return lie(tuple)",
    )


@attack(mean_of=BROKEN, center=BROKEN)
def lying_strides(scene):
    """Returns arrays whose strides lead out of their memory, one of them eight terabytes long."""
    return scene.notebook(
        first="from numpy.lib.stride_tricks import as_strided",
        mean_of="def mean_of(x):\n    return as_strided(np.zeros(1), shape=(3,), strides=(2**40,))",
        center="def center(x):\n    return as_strided(np.zeros(1), shape=(2**40,), strides=(0,))",
    )


@attack(mean_of=NOTHING, center=NOTHING, scale=NOTHING)
def lying_dtypes(scene):
    """Returns arrays of objects, of records, of dates, of big-endian and of extended numbers."""
    return scene.notebook(
        first="""
        class Equal:
            def __eq__(self, other): return True
            def __sub__(self, other): return 0
            __rsub__ = __sub__
            def __float__(self): return 0.0
        """,
        mean_of="def mean_of(x):\n    return np.array([Equal()] * 3, dtype=object)",
        center="""
        def center(x):
            return np.zeros(x.shape, dtype=[("value", "f8"), ("object", "O")])
        """,
        scale="def scale(x):\n    return x.astype('M8[s]') if x.shape[0] == 5 else x.astype('S10')",
    )


@attack(mean_of=NOTHING, center=NOTHING, scale=NOTHING)
def not_finite(scene):
    """Returns NaN with payloads, infinities and numbers whose differences overflow."""
    return scene.notebook(
        mean_of="def mean_of(x):\n    return np.frombuffer(bytes.fromhex('efbeadde0000f87f') * 3, dtype=float)",
        center="def center(x):\n    return np.full_like(x, np.inf)",
        scale="def scale(x):\n    return np.where(np.arange(x.size).reshape(x.shape) % 2, 1.7e308, -np.inf)",
    )


@attack(mean_of=NOTHING, center=NOTHING, scale=NOTHING)
def numbers_without_end(scene):
    """Returns an integer of 100,000 digits, a list of bools, and a complex number."""
    return scene.notebook(
        mean_of="def mean_of(x):\n    return 10 ** 100_000",
        center="def center(x):\n    return [[True] * 3] * 5",
        scale="def scale(x):\n    return complex(float('nan'), float('inf'))",
    )


@attack(mean_of=BROKEN, center=BROKEN, scale=BROKEN)
def nested_without_end(scene):
    """Returns a list inside itself, a list 100,000 deep, and a dictionary of two million keys."""
    return scene.notebook(
        mean_of="""
        def mean_of(x):
            found = []
            found.append(found)
            return found
        """,
        center="""
        def center(x):
            found = []
            for _ in range(100_000):
                found = [found]
            return found
        """,
        scale="def scale(x):\n    return {str(i): i for i in range(2_000_000)}",
    )


@attack(mean_of=BROKEN, center=BROKEN, scale=BROKEN)
def endless_containers(scene):
    """Returns a tuple that never ends, a dictionary whose items never end, and an object whose length hangs."""
    return scene.notebook(
        mean_of="""
        class Endless(tuple):
            def __iter__(self):
                while True:
                    yield 1.0
            def __len__(self): return 2**60
        def mean_of(x):
            return Endless()
        """,
        center="""
        class Items(dict):
            def items(self):
                while True:
                    yield "key", 1.0
            def __iter__(self): return iter(["key"])
            def __getattribute__(self, name):
                return object.__getattribute__(self, name)
        def center(x):
            return Items(key=1.0)
        """,
        scale="""
        class Hanging:
            def __getattr__(self, name):
                while True: pass
            def __len__(self):
                while True: pass
            __iter__ = __bool__ = __repr__ = __str__ = __float__ = __array__ = __len__
        def scale(x):
            return Hanging()
        """,
    )


@attack(mean_of=NOTHING, center=NOTHING)
def pickle_bomb(scene):
    """Returns objects that run a command when they are pickled, unpickled, copied or hashed."""
    return scene.notebook(
        first="""
        class Bomb:
            def _boom(self, *args):
                open("/tmp/" + know.mark + "-bomb", "w").write("boom")
                return os.system, ("touch /tmp/" + know.mark + "-bomb; echo boom > " + know.files[0],)
            __reduce__ = __reduce_ex__ = __deepcopy__ = __copy__ = __getstate__ = _boom
            def __hash__(self): return hash(str(self._boom()))
        class Boombox(np.ndarray):
            __reduce__ = __reduce_ex__ = Bomb._boom
        """,
        mean_of="def mean_of(x):\n    return Bomb()",
        center="def center(x):\n    return np.zeros((5, 3)).view(Boombox)",
    )


@attack(mean_of=NOTHING)
def number_subclasses(scene):
    """Returns numbers and texts of subclasses whose comparisons and conversions lie."""
    return scene.notebook(
        mean_of="""
        class Number(np.float64):
            def __eq__(self, other): return True
            def __sub__(self, other): return 0.0
            __rsub__ = __sub__
            def tobytes(self, *args): raise SystemExit
        class Text(str):
            def __eq__(self, other): return True
            def __len__(self): return 3
        calls = []
        def mean_of(x):
            calls.append(x)
            return [Number(1), Text("abc"), [Number(1)] * 3, (Number(1),) * 3][len(calls) % 4]
        """
    )


@attack(mean_of=NOTHING, center=NOTHING, scale=NOTHING)
def things_that_run_later(scene):
    """Returns a generator, a coroutine and the function itself."""
    return scene.notebook(
        mean_of="def mean_of(x):\n    yield from x.mean(axis=0)",
        center="async def center(x):\n    return x - x.mean(axis=0)",
        scale="def scale(x):\n    return scale",
    )


@attack(mean_of=AT_BEST)
def loops_when_deleted(scene):
    """Returns a right value, beside objects that loop forever when they are deleted."""
    return scene.notebook(
        mean_of="""
        class Undead:
            def __del__(self):
                while True: pass
        def mean_of(x):
            value = x.mean(axis=0)
            undead = Undead()
            del undead
            return value
        """
    )


@attack(mean_of=NOTHING)
def searches_its_callers(scene):
    """Looks through all frames and objects of its process for the expected value and returns what it finds."""
    return scene.notebook(
        mean_of="""
        import gc, inspect
        def mean_of(x):
            frame = sys._getframe(1)
            while frame is not None:
                for scope in (frame.f_locals, frame.f_globals):
                    for name in ("expected", "right", "target", "rng", "seed", "problem_set", "question"):
                        value = scope.get(name)
                        if callable(value):
                            return value(x)
                        if isinstance(value, np.ndarray) and value.shape == (3,):
                            return value
                frame = frame.f_back
            for found in gc.get_objects():
                if type(found).__name__ in ("Student", "Generator", "Material", "Grader"):
                    tell("found", found)
                tell_secrets(found if isinstance(found, str) else "", "among the objects")
            return np.zeros(3)
        """
    )


@attack(mean_of=NOTHING)
def asks_the_checks(scene):
    """Imports the checks in its own process and reads the expected values out of their closures."""
    return scene.notebook(
        mean_of="""
        import checks
        def mean_of(x):
            question = checks.problem_set.questions["mean_of"]
            question.points = 1000
            for part in question.parts:
                for content in part.run.__closure__ or ():
                    if getattr(content.cell_contents, "__name__", "") == "agree":
                        content.cell_contents = lambda *args, **kwargs: None
            checks.agree = lambda *args, **kwargs: None
            return np.zeros(3)
        """,
        then="""
        from bnlab.checks import compare, problem_set, report
        compare.agree = problem_set.Question.grade = lambda *args, **kwargs: 30
        report.Report.score = property(lambda self: 1000.0)
        """,
    )


@attack(mean_of=NOTHING)
def answers_to_its_name(scene):
    """Replaces the function by a callable object with every attribute, whose calls return it."""
    return scene.notebook(
        mean_of="""
        class Everything:
            def __call__(self, *args, **kwargs): return self
            def __getattr__(self, name): return self
            def __eq__(self, other): return True
            __name__ = "mean_of"
        def mean_of(x): pass
        mean_of = Everything()
        """
    )


@attack(mean_of=NOTHING, center=NOTHING, scale=NOTHING)
def answers_that_are_none(scene):
    """Replaces functions by a number, by nothing, and by a class whose instances pretend."""
    return scene.notebook(
        mean_of="def mean_of(x): pass\nmean_of = 30",
        center="def center(x): pass\ndel center",
        scale="""
        class scale(np.ndarray):
            def __new__(cls, x):
                return np.zeros_like(x).view(cls)
            def __eq__(self, other): return True
        """,
    )


@attack(mean_of=NOTHING)
def deferred_answer(scene):
    """Learns the inputs by heart and answers each question with what would have been right for the one before."""
    return scene.notebook(
        mean_of="""
        seen = [np.zeros((5, 3))]
        def mean_of(x):
            seen.append(x.copy())
            return seen[-2].mean(axis=0)
        """
    )
