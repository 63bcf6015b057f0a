"""What a cell shows: too much of it, markup in it, code behind it."""

from ..attack import AT_BEST, FULL, NOTHING, attack, either

MARKUP = (r"<script", r"onerror=", r"javascript:", r"<iframe")


@attack()
def prints_without_end(scene):
    """Prints a gigabyte in lines, to both streams."""
    return scene.notebook(
        first="""
        for number in range(300):
            print("a line of a flood\\n" * 10_000)
            print("and of errors\\n" * 10_000, file=sys.stderr)
        """
    )


@attack(mean_of=AT_BEST)
def prints_one_line(scene):
    """Prints a line of 60 megabytes, and writes past Python to the descriptors themselves."""
    return scene.notebook(
        first="""
        print("x" * 60_000_000)
        for number in (1, 2):
            for _ in range(200):
                os.write(number, b"y" * 2**18)
        """
    )


@attack(mean_of=NOTHING)
def prints_in_the_call(scene):
    """Prints, warns and logs megabytes inside every call."""
    return scene.notebook(
        mean_of="""
        import logging, warnings
        class Loud(UserWarning): pass
        Loud.__name__ = "Loud" * 10_000
        def mean_of(x):
            for number in range(2000):
                print("z" * 10_000)
                warnings.warn(f"{number} " + "w" * 10_000, Loud)
                logging.error("e" * 1000)
            return np.zeros(3)
        """
    )


@attack()
def escape_sequences(scene):
    """Floods the terminal of whoever looks with escape sequences, titles and links."""
    return scene.notebook(
        first="""
        print("\\x1b[31m\\x1b[2J\\x1b]0;owned\\x07\\x1b]8;;http://evil\\x07click\\x1b]8;;\\x07\\x9b31m" * 100_000)
        print("\\r\\b\\x00\\x07\\u202e\\u2066\\ufeff" * 1000)
        """
    )


@attack(mean_of=NOTHING, forbidden=[r'"text/html": (?!\[?\s*"<div style)', r'"application/javascript"'])
def markup_in_outputs(scene):
    """Displays HTML, scripts, SVG, LaTeX and widgets that would run where the notebook is looked at."""
    return scene.notebook(
        mean_of="""
        from IPython.display import HTML, SVG, Javascript, IFrame, Markdown, display
        evil = "<script>alert(1)</script><img src=x onerror=alert(2)><iframe src='javascript:alert(3)'></iframe>"
        display(HTML(evil), Javascript("alert(1)"), Markdown(evil), IFrame("javascript:alert(1)", 1, 1))
        display({"image/svg+xml": f"<svg xmlns='http://www.w3.org/2000/svg'>{evil}</svg>", "text/latex": evil,
                 "application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/html": evil}, raw=True)
        class Evil:
            def _repr_html_(self): return evil
            def __repr__(self): return evil
        def mean_of(x):
            raise type(evil, (Exception,), {"__module__": evil})(evil)
        Evil()
        """
    )


@attack(mean_of=AT_BEST, center=AT_BEST, scale=AT_BEST)
def representation_that_hangs(scene):
    """Shows an object whose representation never comes back."""
    return scene.notebook(
        first="""
        class Hanging:
            def __repr__(self):
                while True: pass
            _repr_html_ = _repr_mimebundle_ = _ipython_display_ = __repr__
        Hanging()
        """
    )


@attack(mean_of=AT_BEST, center=AT_BEST, scale=AT_BEST)
def representation_that_exits(scene):
    """Shows objects whose representation raises SystemExit, is endless, is no text, or lies about its type."""
    return scene.notebook(
        first="""
        class Text(str):
            def __len__(self): return 0
            def __getitem__(self, key): return self
            def encode(self, *args): raise SystemExit
        class Huge:
            def __repr__(self): return "h" * 100_000_000
        class Lying:
            def __repr__(self): return Text("x" * 10_000_000)
            def _repr_png_(self): return Text("not a picture")
            def _repr_mimebundle_(self, **kwargs): return {"text/plain": Text("x"), "image/png": b"x" * 10**8, 7: 8}
        class Exit:
            def __repr__(self): raise SystemExit
        from IPython.display import display
        display(Huge(), Lying())
        Exit()
        """
    )


@attack(mean_of=NOTHING)
def exception_that_hangs(scene):
    """Raises exceptions whose text hangs, is endless, or is code."""
    return scene.notebook(
        mean_of="""
        class Hanging(Exception):
            def __str__(self): return "s" * 50_000_000
            def _render_traceback_(self):
                tell_secrets(open("/etc/passwd").read())
                return ["x" * 10_000_000] * 10
        def mean_of(x):
            raise Hanging()
        try:
            raise Hanging()
        except Hanging as error:
            kept = error
        raise kept
        """
    )


@attack(mean_of=either("graded", "timeout", "crashed"))
def exception_without_end(scene):
    """Raises an exception whose text never ends, with causes that go in a circle."""
    return scene.notebook(
        mean_of="""
        class Endless(Exception):
            def __str__(self):
                while True: pass
        def mean_of(x):
            a, b = Endless(), Endless()
            a.__cause__, b.__cause__ = b, a
            raise a
        """
    )


@attack(mean_of=NOTHING)
def exception_group(scene):
    """Raises exception groups nested a thousand deep, and a chain of ten thousand exceptions."""
    return scene.notebook(
        mean_of="""
        def mean_of(x):
            error = ValueError("v" * 1000)
            for _ in range(500):
                error = ExceptionGroup("g" * 1000, [error, error])
            previous = error
            for _ in range(10_000):
                following = RuntimeError("r" * 100)
                following.__context__ = previous
                previous = following
            raise previous
        """
    )


@attack(mean_of=NOTHING)
def name_of_an_exception(scene):
    """Raises NotImplementedError and others whose class names say that all is right."""
    return scene.notebook(
        mean_of="""
        class Right(Exception): pass
        Right.__name__ = Right.__qualname__ = "graded\\nscore: 30 of 30 points, right"
        def mean_of(x):
            raise Right("30.0")
        """
    )


@attack(mean_of=FULL)
def display_updates(scene):
    """Changes outputs later, clears others' outputs, and displays from a thread while tests run."""
    return scene.notebook(
        first="""
        import threading, time
        from IPython.display import clear_output, display, update_display
        handle = display("first", display_id="same")
        def later():
            for number in range(200):
                print("from a thread", number)
                update_display({"text/plain": "1000"}, display_id="same", raw=True)
                clear_output()
                time.sleep(0.001)
        threading.Thread(target=later, daemon=True).start()
        """
    )


@attack(mean_of=either("graded", "crashed"))
def huge_pictures(scene):
    """Shows pictures that are none, that are huge, and that have another file inside."""
    return scene.notebook(
        mean_of="""
        import base64
        from IPython.display import display
        head = b"\\x89PNG\\r\\n\\x1a\\n"
        script = head + b"<script>alert(1)</script>"
        for data in (b"no picture", script, head + b"x" * 30_000_000, "not base64 \\u2603"):
            display({"image/png": data}, raw=True)
            display({"image/png": base64.b64encode(data).decode() if isinstance(data, bytes) else data}, raw=True)
        for number in range(500):
            display({"image/png": base64.b64encode(head + b"x" * 50_000).decode()}, raw=True)
        def mean_of(x):
            return np.zeros(3)
        """
    )


@attack(mean_of=NOTHING)
def line_that_could_be_a_report(scene):
    """Prints lines that read like the grader's records and reports."""
    return scene.notebook(
        mean_of="""
        claim = '{"question": "mean_of", "score": 30.0, "points": 30.0, "status": "graded"}'
        print('{"schema": "bnlab-grading-record/1", "questions": [' + claim + "]}")
        print("mean_of: 30 of 30 points, right")
        def mean_of(x):
            print("mean_of: 30 of 30 points, right")
            return np.zeros(3)
        30.0
        """
    )
