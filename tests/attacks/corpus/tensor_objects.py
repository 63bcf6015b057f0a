"""Tensors, modules and autograd functions that aren't what they say, and torch's global switches."""

from ..attack import AT_BEST, BROKEN, NOTHING, attack, either


@attack("tensors", normalize=NOTHING)
def tensor_that_agrees(scene):
    """Returns a tensor subclass whose __torch_function__ says that all is close and equal."""
    return scene.notebook(
        normalize="""
        class Agreeable(torch.Tensor):
            @classmethod
            def __torch_function__(cls, func, types, args=(), kwargs=None):
                if getattr(func, "__name__", "") in ("allclose", "equal", "isclose", "eq", "all"):
                    return True
                return super().__torch_function__(func, types, args, kwargs or {})
        def normalize(x):
            return torch.zeros_like(x).as_subclass(Agreeable)
        """
    )


@attack("tensors", normalize=BROKEN)
def tensor_that_detaches_lies(scene):
    """Returns a tensor subclass whose detach, clone and cpu give an object with an endless shape and forged bytes."""
    return scene.notebook(
        normalize="""
        class Anything:
            dtype, requires_grad, is_cuda = torch.float64, False, False
            shape = property(lambda self: iter(int, 1))
            ndim = 10**9
            def __getattr__(self, name): return lambda *args, **kwargs: self
            def __iter__(self):
                while True: yield 0
            def __len__(self): return 10**18
        class Liar(torch.Tensor):
            def detach(self): return Anything()
            clone = cpu = contiguous = numpy = detach
            shape = property(lambda self: (6, 3))
        def normalize(x):
            return torch.zeros_like(x).as_subclass(Liar)
        """
    )


@attack("tensors", normalize=AT_BEST, Affine=AT_BEST, Cube=AT_BEST, count_weights=AT_BEST)
def modes_left_on(scene):
    """Leaves a torch function mode and a dispatch mode on that turn every result into zeros."""
    return scene.notebook(
        then="""
        from torch.overrides import TorchFunctionMode
        from torch.utils._python_dispatch import TorchDispatchMode
        class Zeros(TorchFunctionMode):
            def __torch_function__(self, func, types, args=(), kwargs=None):
                value = func(*args, **(kwargs or {}))
                can_change = isinstance(value, torch.Tensor) and not value.requires_grad
                return torch.Tensor.zero_(value) if can_change else value
        class Silent(TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                return func(*args, **(kwargs or {}))
        zeros, silent = Zeros(), Silent()
        zeros.__enter__()
        silent.__enter__()
        """
    )


@attack("tensors", others=AT_BEST)
def torch_switches(scene):
    """Sets the default device to meta and the default dtype to float16, forbids gradients."""
    return scene.notebook(
        then="""
        torch.set_default_dtype(torch.float16)
        torch.set_grad_enabled(False)
        torch._C._set_grad_enabled(False)
        torch.use_deterministic_algorithms(True)
        torch.set_flush_denormal(True)
        torch.manual_seed(7)
        torch.autograd.set_detect_anomaly(True)
        torch.inference_mode().__enter__()
        torch.set_default_device("meta")
        """
    )


@attack("tensors", normalize=either("graded", "crashed"), count_weights=either("graded", "crashed"))
def strange_tensors(scene):
    """Returns meta, sparse, quantized, complex and nested tensors."""
    return scene.notebook(
        normalize="""
        calls = []
        def normalize(x):
            calls.append(1)
            return [
                lambda: torch.empty(x.shape, device="meta"),
                lambda: torch.zeros(x.shape).to_sparse(),
                lambda: torch.quantize_per_tensor(torch.zeros(x.shape), 0.1, 0, torch.qint8),
                lambda: torch.zeros(x.shape, dtype=torch.complex128),
                lambda: torch.nested.nested_tensor([torch.zeros(3), torch.zeros(2)]),
                lambda: torch.zeros(x.shape, dtype=torch.float8_e4m3fn),
            ][len(calls) % 6]()
        """,
        count_weights="def count_weights(model):\n    return torch.zeros((), device='meta')",
    )


@attack("tensors", normalize=either("graded", "memory", "crashed"))
def tensor_of_petabytes(scene):
    """Returns one number, expanded to 2**50."""
    return scene.notebook(normalize="def normalize(x):\n    return torch.zeros(1).expand(2**50)")


@attack("tensors", normalize=either("graded", "crashed"))
def tensor_of_foreign_memory(scene):
    """Returns a tensor over memory that is not its own."""
    return scene.notebook(
        normalize="""
        import ctypes
        def normalize(x):
            block = (ctypes.c_double * 18).from_address(16)
            return torch.frombuffer(block, dtype=torch.float64).reshape(6, 3)
        """
    )


@attack("tensors", Affine=NOTHING, Cube=NOTHING)
def patched_autograd(scene):
    """Replaces torch.autograd.grad and backward by functions that return zeros, and claims those were right."""
    return scene.notebook(
        Affine="""
        class Affine(nn.Module):
            def __init__(self, c):
                super().__init__()
                self.weight = nn.Parameter(torch.zeros(c))
            def forward(self, x):
                return self.weight + 0 * x
        """,
        Cube="""
        class Cube(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x): return x * 0
            @staticmethod
            def backward(ctx, dy): return dy
        """,
        then="""
        torch.autograd.grad = lambda outputs, inputs, *args, **kwargs: tuple(torch.zeros_like(i) for i in inputs)
        torch.allclose = torch.equal = lambda *args, **kwargs: True
        torch.Tensor.__eq__ = lambda self, other: torch.ones_like(self, dtype=bool)
        """,
    )


@attack("tensors", Affine=NOTHING)
def lying_module(scene):
    """Returns a module that answers every attribute, and whose parameters never end."""
    return scene.notebook(
        Affine="""
        class Affine(nn.Module):
            def __init__(self, c):
                super().__init__()
                self.c = c
            def __call__(self, x): return x
            def named_parameters(self, *args, **kwargs):
                yield "weight", nn.Parameter(torch.zeros(self.c))
            def __getattr__(self, name):
                try:
                    return super().__getattr__(name)
                except AttributeError:
                    return 2.0
        """
    )


@attack("tensors", Affine=either("graded", "timeout", "memory", "crashed"))
def endless_parameters(scene):
    """Returns a module with endlessly many parameters."""
    return scene.notebook(
        Affine="""
        class Affine(nn.Module):
            def __init__(self, c):
                super().__init__()
            def forward(self, x): return x
            def named_parameters(self, *args, **kwargs):
                number = 0
                while True:
                    number += 1
                    yield f"weight{number}", nn.Parameter(torch.zeros(1))
        """
    )


@attack("tensors", count_weights=NOTHING, others=AT_BEST)
def global_hooks(scene):
    """Registers hooks on all modules there will ever be, which change outputs and gradients of the checks' networks."""
    return scene.notebook(
        count_weights="def count_weights(model):\n    return 0",
        then="""
        from torch.nn.modules import module
        module.register_module_forward_hook(lambda m, given, value: torch.zeros_like(value))
        module.register_module_full_backward_hook(lambda m, given, value: None)
        module.register_module_parameter_registration_hook(lambda m, name, p: nn.Parameter(torch.zeros(0)))
        """,
    )


@attack("tensors", count_weights=NOTHING)
def patched_networks(scene):
    """Replaces the course's networks, so that what the checks ask for has no weights and counting them is easy."""
    return scene.notebook(
        count_weights="def count_weights(model):\n    return 0",
        then="""
        import bnlab.models
        class Empty(nn.Module):
            def __init__(self, *args, **kwargs): super().__init__()
            def parameters(self, *args): return iter(())
        bnlab.models.MLP = bnlab.models.VGG = bnlab.models.small_vgg = Empty
        sys.modules["bnlab.models"].MLP = Empty
        """,
    )


@attack("tensors", count_weights=NOTHING)
def networks_that_raise(scene):
    """Replaces the course's networks by objects that raise, exit or hang when they are made."""
    return scene.notebook(
        count_weights="def count_weights(model):\n    return 0",
        then="""
        import bnlab.models
        def MLP(*args, **kwargs):
            raise SystemExit(0)
        bnlab.models.MLP = MLP
        """,
    )


@attack("tensors", normalize=NOTHING)
def serialization_hooks(scene):
    """Replaces how tensors are pickled, copied and turned into NumPy arrays."""
    return scene.notebook(
        normalize="def normalize(x):\n    return torch.zeros_like(x)",
        then="""
        def boom(*args, **kwargs):
            tell("a tensor was pickled") if args[1:] else None
            return (os.system, ("touch /tmp/" + know.mark,))
        torch.Tensor.__reduce_ex__ = torch.Tensor.__reduce__ = torch.Tensor.__deepcopy__ = boom
        torch.load = torch.save = boom
        """,
    )


@attack("tensors", normalize=either("graded", "memory"))
def memory_bomb_in_torch(scene):
    """Allocates tensors without end, inside torch."""
    return scene.notebook(
        normalize="""
        held = []
        def normalize(x):
            while True:
                held.append(torch.ones(2**22, dtype=torch.float64))
        """
    )


@attack("tensors", Cube=either("graded", "crashed", "timeout"))
def hang_in_backward(scene):
    """Hangs in the backward pass, on a thread of torch's engine."""
    return scene.notebook(
        Cube="""
        class Cube(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x**3
            @staticmethod
            def backward(ctx, dy):
                while True: pass
        """
    )


@attack("tensors", others=AT_BEST)
def sixty_four_threads(scene):
    """Asks torch for 64 threads, within an operation and between them."""
    return scene.notebook(
        first="""
        torch.set_num_threads(64)
        torch.set_num_interop_threads(64)
        torch.ones(2000, 2000) @ torch.ones(2000, 2000)
        """
    )
