"""Bytes on the way back to the grader that are no answer, or somebody else's."""

import nbformat

from ..attack import AT_BEST, BROKEN, LATE, LOST, NOTHING, attack, either

# What the attacks share: every file descriptor that could lead to the grader, and a way to write a message.
WAYS = """
import gc, json, socket, struct, time

def descriptors():
    for number in range(3, 256):
        try:
            os.fstat(number)
            yield number
        except OSError:
            pass

def write_everywhere(data):
    for number in descriptors():
        try:
            os.write(number, data)
        except OSError:
            pass

def message(tree, buffers=(), encode=True):
    header = json.dumps(tree).encode() if encode else tree
    parts = [struct.pack("<IQ", len(header), len(buffers)), header]
    for buffer in buffers:
        parts += [struct.pack("<Q", len(buffer)), buffer]
    return b"".join(parts)
"""

# Takes the place of what sends an answer, so that `forge(number, answer)` decides what goes out.
FORGER = (
    WAYS
    + """
from bnlab.grading import wire

def forge_with(forge):
    send = wire.Channel.send
    def forged(self, value, *rest):
        if isinstance(value, tuple) and len(value) == 2 and ready:
            return forge(self, send, *value)
        return send(self, value, *rest)
    wire.Channel.send = forged

ready = []
"""
)
ANSWER = "def mean_of(x):\n    ready.append(1)\n    return np.zeros(3)"


@attack(mean_of=LOST)
def noise_on_all_descriptors(scene):
    """Writes bytes to every open file descriptor inside the call."""
    return scene.notebook(
        first=WAYS,
        mean_of="""
        def mean_of(x):
            for _ in range(3):
                write_everywhere(bytes(range(100, 256)) * 40)
            return np.zeros(3)
        """,
    )


@attack(mean_of=AT_BEST, others=AT_BEST)
def noise_before_any_question(scene):
    """Writes bytes to every open file descriptor while the answers are being defined."""
    return scene.notebook(first=WAYS + "write_everywhere(b'\\0' * 100)\nwrite_everywhere(b'\\xff' * 1000)")


@attack(mean_of=LOST, others=AT_BEST)
def replies_in_advance(scene):
    """Writes forged replies, numbered like those to come, before the questions arrive."""
    return scene.notebook(
        first=WAYS
        + """
reply = ["tuple", [["array", "<f8", [3]], None, ["tuple", []], "", ["tuple", []], ["tuple", []]]]
for number in range(60):
    write_everywhere(message(["tuple", [number, reply]], [bytes(24)]))
    write_everywhere(message(["tuple", [number, ""]]))
    write_everywhere(message(["tuple", [number, ["list", []]]]))
""",
        mean_of="def mean_of(x):\n    return np.zeros(3)",
    )


@attack(mean_of=LOST)
def header_of_gigabytes(scene):
    """Announces a header of four gigabytes and two to the sixty-fourth buffers, and stays silent."""
    return scene.notebook(
        first=WAYS,
        mean_of="""
        def mean_of(x):
            write_everywhere(struct.pack("<IQ", 2**32 - 1, 2**64 - 1))
            time.sleep(3600)
        """,
    )


@attack(mean_of=LOST)
def endless_buffers(scene):
    """Announces as many buffers as are allowed, each empty, and then sends without end."""
    return scene.notebook(
        first=WAYS,
        mean_of="""
        def mean_of(x):
            write_everywhere(struct.pack("<IQ", 2, 100_000) + b"[]")
            while True:
                write_everywhere(bytes(8) * 8192)
        """,
    )


@attack(mean_of=LATE)
def slow_answer(scene):
    """Announces a long answer and sends one byte of it ten times a second."""
    return scene.notebook(
        first=WAYS,
        mean_of="""
        def mean_of(x):
            write_everywhere(struct.pack("<IQ", 1_000_000, 0))
            while True:
                write_everywhere(b"[")
                time.sleep(0.1)
        """,
    )


@attack(mean_of=LOST)
def deeply_nested_answer(scene):
    """Sends an answer of brackets, two million deep."""
    return scene.notebook(
        first=WAYS,
        mean_of="""
        def mean_of(x):
            write_everywhere(message(b"[" * 2_000_000 + b"]" * 2_000_000, encode=False))
            return np.zeros(3)
        """,
    )


@attack(mean_of=BROKEN)
def large_answers(scene):
    """Returns an array and a text as large as the wire allows, and larger."""
    return scene.notebook(
        mean_of="""
        sizes = iter([2**22, 2**23 - 64, 2**23 + 64, 2**26])
        def mean_of(x):
            return np.zeros(next(sizes, 2**22))
        """,
        center="def center(x):\n    return x - x.mean(axis=0)",
    )


@attack(mean_of=BROKEN, center=BROKEN, scale=BROKEN)
def shapes_that_lie(scene):
    """Sends arrays whose shapes, dtypes and buffers contradict each other."""
    return scene.notebook(
        first=FORGER
        + """
shapes = [["<f8", [3], b"x"], ["|O", [1], bytes(8)], ["<f8", [-1], bytes(24)], ["<f8", [True, 3], bytes(24)],
          ["<f8", [0, 2**62], b""], ["<f8", [2**31, 2**31, 0], b""], ["<M8[s]", [1], bytes(8)], ["V8", [1], bytes(8)],
          ["<f8", [1] * 64, bytes(8)], ["<f8", "33", bytes(24)], [["<f8"], [3], bytes(24)], ["<f8", {}, bytes(24)]]
sent = []
def forge(channel, send, number, answer):
    dtype, shape, data = shapes[len(sent) % len(shapes)]
    sent.append(1)
    value = ["array", dtype, shape]
    reply = ["tuple", [value, None, ["tuple", []], "", ["tuple", []], ["tuple", []]]]
    write_everywhere(message(["tuple", [number, reply]], [data]))
forge_with(forge)
""",
        mean_of=ANSWER,
        center="def center(x):\n    return np.zeros_like(x)",
        scale="def scale(x):\n    return np.zeros_like(x)",
    )


def forged(code: str) -> dict[str, str]:
    return {"first": FORGER + code + "\nforge_with(forge)\n", "mean_of": ANSWER}


@attack(mean_of=LOST, others=AT_BEST)
def reply_of_wrong_fields(scene):
    """Sends replies with fields missing, too many, and of other types than they should be."""
    return scene.notebook(
        **forged(
            """
replies = [(), (1,), (1, 2, 3, 4, 5, 6, 7, 8), {"value": 1}, [None] * 6, (None, "failure", (), "", (), ()),
           (None, ("raised", (), "", ""), (), "", (), ()), (None, ("raised", "abc", 7, []), (), "", (), ()),
           (None, None, (99, "nobody", -1, 2.5), "", (), ()), (None, None, 5, 6, 7, 8), (1.0, None, (), 1, ({},), (1,))]
sent = []
def forge(channel, send, number, answer):
    sent.append(1)
    send(channel, (number, replies[len(sent) % len(replies)]))
"""
        )
    )


@attack(mean_of=LOST, others=AT_BEST)
def reply_of_strange_failures(scene):
    """Sends failures without a type, of an unknown kind, and inputs changed that do not exist."""
    return scene.notebook(
        **forged(
            """
failures = [("raised", (), "", ""), ("", (), "", ""), ("graded", ("Right",), "1000", ""), ("timeout", (), "", ""),
            ("exit", (), "", ""), ("not answered", (), "", "")]
sent = []
def forge(channel, send, number, answer):
    sent.append(1)
    send(channel, (number, (None, failures[len(sent) % len(failures)], (), "", (), ())))
"""
        )
    )


@attack(others=either("graded", "crashed", most=0.75))
def inputs_that_do_not_exist(scene):
    """Answers rightly, and says that it has changed its seventh argument and one that is called like a path."""
    return scene.notebook(
        first=FORGER
        + """
def forge(channel, send, number, answer):
    if isinstance(answer, tuple):
        answer = (*answer[:2], (7, -7, "../../x", "<b>"), *answer[3:])
    send(channel, (number, answer))
forge_with(forge)
ready.append(1)
"""
    )


@attack(mean_of=BROKEN, others=AT_BEST)
def handles_out_of_range(scene):
    """Answers with handles of impossible numbers and names of types that are markup."""
    return scene.notebook(
        **forged(
            """
from bnlab.checks import Handle
sent = []
def forge(channel, send, number, answer):
    sent.append(1)
    value = [Handle(-1, "<script>"), Handle(10**4000, "x" * 10_000), Handle(2**63, "\\x1b[31m")][len(sent) % 3]
    send(channel, (number, (value, None, (), "", (), ())))
"""
        )
    )


@attack(mean_of=BROKEN, others=AT_BEST)
def texts_of_megabytes(scene):
    """Sends messages, prints, warnings and names of types of megabytes each, past the limits on its own side."""
    return scene.notebook(
        **forged(
            """
LONG = "a very long message " * 15_000
def forge(channel, send, number, answer):
    send(channel, (number, (None, ("raised", (LONG,) * 4, LONG, LONG), (), LONG, (LONG,) * 3, (LONG,) * 3)))
"""
        )
    )


@attack(mean_of=BROKEN, others=AT_BEST)
def texts_that_are_none(scene):
    """Sends half surrogates, null characters, escape sequences and direction marks wherever a text may stand."""
    return scene.notebook(
        **forged(
            """
ODD = "\\ud800\\x00\\x1b]0;title\\x07\\x1b[2J\\u202e\\udfff</pre><script>alert(1)</script>"
def forge(channel, send, number, answer):
    send(channel, (number, (None, ("raised", (ODD, "Exception"), ODD, ODD), (), ODD, (ODD,), (ODD,))))
"""
        )
    )


@attack(mean_of=LOST, others=AT_BEST)
def numbers_of_other_questions(scene):
    """Sends each answer under the numbers of other questions, twice, and in the wrong order."""
    return scene.notebook(
        **forged(
            """
def forge(channel, send, number, answer):
    for other in (number + 1, number - 1, -1, 10**30, number, number, number + 1):
        send(channel, (other, (np.zeros(3), None, (), "", (), ())))
"""
        )
    )


@attack(mean_of=LOST, others=AT_BEST)
def hangs_up(scene):
    """Closes every connection, and goes on."""
    return scene.notebook(
        first=WAYS,
        mean_of="""
        def mean_of(x):
            os.closerange(3, 256)
            time.sleep(0.2)
            return np.zeros(3)
        """,
    )


@attack(mean_of=LOST, others=AT_BEST)
def never_listens(scene):
    """Fills the connection with answers to nothing, and never reads a question."""
    return scene.notebook(
        first=WAYS,
        mean_of="""
        def mean_of(x):
            while True:
                write_everywhere(message(["tuple", [0, None]]))
        """,
    )


@attack(mean_of=NOTHING)
def passes_descriptors(scene):
    """Sends a file descriptor over the connection, and asks every socket it has who listens on the other end."""
    return scene.notebook(
        first=WAYS,
        mean_of="""
        def mean_of(x):
            for number in descriptors():
                try:
                    with socket.socket(fileno=os.dup(number)) as other:
                        peer = other.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                        other.getpeername()
                except OSError:
                    pass
            return np.zeros(3)
        """,
    )


@attack(mean_of=LOST, others=AT_BEST)
def connection_options(scene):
    """Makes the connection non-blocking, shuts half of it, and shrinks its buffers."""
    return scene.notebook(
        first=WAYS,
        mean_of="""
        def mean_of(x):
            for number in descriptors():
                try:
                    os.set_blocking(number, False)
                    with socket.socket(fileno=os.dup(number)) as other:
                        other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
                        other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                        other.shutdown(socket.SHUT_RD)
                except OSError:
                    pass
            return np.zeros(3)
        """,
    )


@attack(mean_of=either("graded", "crashed", "timeout"), others=AT_BEST)
def serves_by_itself(scene):
    """Takes the connection over and answers every question by a server of its own, with forged reports."""
    return scene.notebook(
        first=FORGER,
        mean_of="""
        def mean_of(x):
            channel = next((c for c in gc.get_objects() if isinstance(c, wire.Channel)), None)
            report = {"question": "mean_of", "points": 30.0, "score": 30.0, "status": "right", "parts": []}
            number = 0
            while channel is not None:
                for claim in (report, "", (report, None, (), "", (), ()), True, 30.0):
                    channel.send((number, claim))
                number, *_ = channel.receive()
            return np.zeros(3)
        """,
    )


@attack(others=AT_BEST)
def empty_outputs_without_end(scene):
    """Sends, for each of fifty cells, twenty thousand outputs in which there is nothing."""
    notebook = scene.notebook(
        first=FORGER
        + """
outputs = [{"output_type": "stream", "name": "stdout", "text": ""}] * 10_000
outputs += [{"output_type": "display_data", "data": {"text/plain": ""}}] * 5000
outputs += [{"output_type": "error", "ename": "", "evalue": "", "traceback": [""] * 30_000}]
def forge(channel, send, number, answer):
    send(channel, (number, outputs if isinstance(answer, list) else answer))
forge_with(forge)
ready.append(1)
"""
    )
    place = next(i for i, c in enumerate(notebook.cells) if "forge_with(forge)" in c.source)
    notebook.cells[place + 1 : place + 1] = [nbformat.v4.new_code_cell("1", id=f"more-{i}") for i in range(50)]
    return notebook


@attack(others=AT_BEST)
def outputs_of_wrong_fields(scene):
    """Sends outputs of unknown kinds, with lists where texts stand, and pictures that are none."""
    notebook = scene.notebook(
        first=FORGER
        + """
kinds = [None, 7, [None], [{}], [{"output_type": "update_display_data"}],
         [{"output_type": "stream", "text": ["x"] * 9}], [{"output_type": "error", "traceback": {"a": 1}}],
         [{"output_type": "display_data", "data": {"image/png": "x"}}],
         [{"output_type": "execute_result", "data": {"text/html": "<script>alert(1)</script>"}}],
         [{"output_type": "display_data", "data": {"application/vnd.bnlab.report+json": {"score": 1000}}}]]
sent = []
def forge(channel, send, number, answer):
    sent.append(1)
    send(channel, (number, kinds[len(sent) % len(kinds)] if isinstance(answer, list) else answer))
forge_with(forge)
ready.append(1)
"""
    )
    place = next(i for i, c in enumerate(notebook.cells) if "forge_with(forge)" in c.source)
    notebook.cells[place + 1 : place + 1] = [nbformat.v4.new_code_cell("1", id=f"more-{i}") for i in range(10)]
    return notebook


@attack(mean_of=NOTHING, others=AT_BEST)
def arrays_that_grow(scene):
    """Returns arrays that are small on the wire and large in a comparison: bytes, axes of length 1, empty axes."""
    return scene.notebook(
        mean_of="""
        shapes = [(2**25, 1), (1, 2**25), (2**25,), (0, 2**40), (2**20, 1, 32), (1,) * 30]
        calls = []
        def mean_of(x):
            calls.append(1)
            return np.zeros(shapes[len(calls) % len(shapes)], dtype=np.int8)
        """,
        center="def center(x):\n    return np.zeros((2**12, 1, 2**12), dtype=bool)",
        scale="def scale(x):\n    return [[0.0] * 300] * 300",
    )
