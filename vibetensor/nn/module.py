"""``Module``: registration, traversal, state and hooks. The fast paths are in ``_module.pyx``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from vibetensor.autograd.grad_mode import no_grad
from vibetensor.core.device import device
from vibetensor.core.dtype import dtype
from vibetensor.core.tensor import Tensor
from vibetensor.nn._module import ModuleBase, parameters_of, prepare_class, register_tensor_type
from vibetensor.nn.parameter import Parameter
from vibetensor.utils.hooks import RemovableHandle

M = TypeVar("M", bound="Module")

register_tensor_type(Tensor)


class _Keys(NamedTuple):
    missing_keys: list[str]
    unexpected_keys: list[str]


class IncompatibleKeys(_Keys):
    """What :meth:`Module.load_state_dict` found missing, and what it had no use for."""

    __slots__ = ()

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return super().__repr__()

    __str__ = __repr__


class _Hook(NamedTuple):
    function: Callable[..., Any]
    with_kwargs: bool
    always_call: bool


def _typename(value: object) -> str:
    cls = type(value)
    if cls.__module__ in ("builtins", "__builtin__"):
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"


def _indent(text: str) -> str:
    return text.replace("\n", "\n  ")


class Module(ModuleBase):
    """Base of all neural network modules: holds parameters, buffers and submodules.

    A subclass sets them as attributes in ``__init__`` (after ``super().__init__()``) and computes
    in ``forward``; calling the module runs ``forward`` and its hooks.

    Examples
    --------
    >>> import vibetensor as vt
    >>> class Scale(vt.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = vt.nn.Parameter(vt.ones(1))
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> [name for name, _ in Scale().named_parameters()]
    ['factor']
    """

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]

    def __init__(self) -> None:
        self._parameters = {}
        self._buffers = {}
        self._modules = {}
        self._non_persistent_buffers_set: set[str] = set()
        self._forward_pre_hooks: OrderedDict[int, _Hook] = OrderedDict()
        self._forward_hooks: OrderedDict[int, _Hook] = OrderedDict()
        self.training = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        prepare_class(cls)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; every subclass defines it."""
        raise NotImplementedError(
            f'Module [{type(self).__name__}] is missing the required "forward" function'
        )

    def __getattr__(self, name: str) -> Any:
        # Attribute access does this by itself; here for subclasses that call super().__getattr__.
        return ModuleBase.__getattribute__(self, name)

    # Registration

    def _check_name(self, name: Any, kind: str, registry: Mapping[str, Any] | None) -> None:
        if registry is None:
            raise AttributeError(f"cannot assign {kind} before Module.__init__() call")
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {_typename(name)}")
        if "." in name:
            got = f", got: {name}" if kind == "module" else ""
            raise KeyError(f'{kind} name can\'t contain "."{got}')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if name not in registry and hasattr(self, name):
            raise KeyError(f"attribute '{name}' already exists")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under ``name``; ``None`` keeps the place without a parameter."""
        self._check_name(name, "parameter", self._parameters)
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(
                    f"cannot assign '{_typename(param)}' object to parameter '{name}' "
                    "(vibetensor.nn.Parameter or None required)"
                )
            if param.grad_fn is not None:
                raise ValueError(
                    f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must "
                    f"be created explicitly. To express '{name}' as a function of another Tensor, "
                    "compute the value in the forward() method."
                )
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is not a parameter: it moves with :meth:`to` and, if persistent, is in
        :meth:`state_dict`."""
        self._check_name(name, "buffer", self._buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{_typename(tensor)}' object to buffer '{name}' "
                "(vibetensor Tensor or None required)"
            )
        self._buffers[name] = tensor
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule under ``name``."""
        if not isinstance(module, Module) and module is not None:
            raise TypeError(f"{_typename(module)} is not a Module subclass")
        self._check_name(name, "module", self._modules)
        self._modules[name] = module

    register_module = add_module

    def _register_value(self, name: str, value: Any) -> bool:
        """Take an assigned attribute into the registry it belongs to; False: a plain attribute.

        Called by ``__setattr__`` for tensors, modules and registered names only.
        """
        if isinstance(value, Parameter):
            if self._parameters is None:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            self._forget(name, self._buffers, self._modules)
            self.register_parameter(name, value)
            return True
        if self._parameters is not None and name in self._parameters:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{_typename(value)}' as parameter '{name}' "
                    "(vibetensor.nn.Parameter or None expected)"
                )
            self.register_parameter(name, None)
            return True
        if isinstance(value, Module):
            if self._modules is None:
                raise AttributeError("cannot assign module before Module.__init__() call")
            self._forget(name, self._parameters, self._buffers)
            self._modules[name] = value
            return True
        if self._modules is not None and name in self._modules:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{_typename(value)}' as child module '{name}' "
                    "(vibetensor.nn.Module or None expected)"
                )
            self._modules[name] = None
            return True
        if self._buffers is not None and name in self._buffers:
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    f"cannot assign '{_typename(value)}' as buffer '{name}' "
                    "(vibetensor.Tensor or None expected)"
                )
            self._buffers[name] = value
            return True
        return False

    def _forget(self, name: str, *registries: dict[str, Any]) -> None:
        """Take ``name`` out of the instance and of the other registries before it changes place."""
        self.__dict__.pop(name, None)
        for registry in registries:
            registry.pop(name, None)
        self._non_persistent_buffers_set.discard(name)

    # Traversal

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """All modules of the tree, this one first, with dotted names; each once."""
        memo = set() if memo is None else memo
        waiting = [(prefix, self)]
        while waiting:
            path, module = waiting.pop()
            if module in memo:
                continue
            if remove_duplicate:
                memo.add(module)
            yield path, module
            if module._modules:
                start = f"{path}." if path else ""
                inner = [(start + n, m) for n, m in module._modules.items() if m is not None]
                waiting += reversed(inner)

    def modules(self) -> Iterator[Module]:
        """All modules of the tree, this one first; each once."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules with their names; each once."""
        seen: set[Module] = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct submodules; each once."""
        for _, module in self.named_children():
            yield module

    def _named_members(
        self, registry: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()  # ids: comparing tensors compares their elements
        if recurse:
            owners = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
        else:
            owners = iter([(prefix, self)])
        for path, module in owners:
            for name, member in getattr(module, registry).items():
                if member is None or id(member) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(member))
                yield f"{path}.{name}" if path else name, member

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their dotted names; a shared parameter once, under its first name."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, each once."""
        cls = type(self)
        # A subclass may say by name what its parameters or its modules are.
        usual = (
            cls.named_parameters is Module.named_parameters
            and cls.named_modules is Module.named_modules
        )
        if recurse and usual:
            return iter(parameters_of(self))
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """The buffers with their dotted names."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers, each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> Module:
        """The submodule of dotted name ``target``; ``""`` is this module."""
        module: Any = self
        for part in target.split(".") if target else ():
            if not hasattr(module, part):
                raise AttributeError(f"{module._get_name()} has no attribute `{part}`")
            module = getattr(module, part)
            if not isinstance(module, Module):
                raise AttributeError(f"`{part}` is not an nn.Module")
        return module

    def _get_member(self, target: str, registry: str, kind: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
        if name not in getattr(module, registry):
            raise AttributeError(f"`{name}` is not {kind}")
        return getattr(module, registry)[name]

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of dotted name ``target``."""
        return self._get_member(target, "_parameters", "an nn.Parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer of dotted name ``target``."""
        return self._get_member(target, "_buffers", "a buffer")

    def apply(self: M, fn: Callable[[Module], Any]) -> M:
        """Call ``fn`` on every submodule, then on this module, for instance to initialise them."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # Modes, device and dtype

    def train(self: M, mode: bool = True) -> M:
        """Set training mode on the whole tree; it matters to modules such as ``Dropout``."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self: M) -> M:
        """Set evaluation mode on the whole tree."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Say for every parameter whether it gets a gradient."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        for parameter in self.parameters():
            if parameter.grad is None:
                continue
            if set_to_none:
                parameter.grad = None
            else:
                parameter.grad = parameter.grad.detach()
                parameter.grad.zero_()

    def _apply(self: M, fn: Callable[[Tensor], Tensor]) -> M:
        """Replace the data of every parameter, gradient and buffer by what ``fn`` returns.

        The parameters stay the same objects, so that an optimizer made before still holds them.
        """
        for module in self.children():
            module._apply(fn)
        for parameter in self._parameters.values():
            if parameter is None:
                continue
            grad = parameter.grad
            with no_grad():
                changed = fn(parameter)
                if changed is not parameter:
                    parameter.data = changed
                if grad is not None:
                    parameter.grad = fn(grad).requires_grad_(grad.requires_grad)
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    def to(self: M, *args: Any, **kwargs: Any) -> M:
        """Move the module to a device and its floating-point members to a dtype, in place.

        Takes ``to(device)``, ``to(dtype)``, ``to(device, dtype)``, ``to(tensor)`` and the keywords
        ``device``, ``dtype``, ``non_blocking``. Integer members keep their dtype.
        """
        target, kind, non_blocking = _parse_to(args, kwargs)
        if kind is not None and not (kind.is_floating_point or kind.is_complex):
            raise TypeError(
                "nn.Module.to only accepts floating point or complex dtypes, but got desired "
                f"dtype={kind}"
            )

        def convert(tensor: Tensor) -> Tensor:
            floating = tensor.is_floating_point() or tensor.is_complex()
            options: dict[str, Any] = {"non_blocking": non_blocking}
            if target is not None:
                options["device"] = target
            if kind is not None and floating:
                options["dtype"] = kind
            return tensor.to(**options) if len(options) > 1 else tensor

        return self._apply(convert)

    def _to_floating(self: M, name: str) -> M:
        def convert(tensor: Tensor) -> Tensor:
            return getattr(tensor, name)() if tensor.is_floating_point() else tensor

        return self._apply(convert)

    def float(self: M) -> M:
        """Convert floating-point parameters and buffers to float32."""
        return self._to_floating("float")

    def double(self: M) -> M:
        """Convert floating-point parameters and buffers to float64."""
        return self._to_floating("double")

    def half(self: M) -> M:
        """Convert floating-point parameters and buffers to float16."""
        return self._to_floating("half")

    def bfloat16(self: M) -> M:
        """Convert floating-point parameters and buffers to bfloat16."""
        return self._to_floating("bfloat16")

    def cpu(self: M) -> M:
        """Move all parameters and buffers to the CPU."""
        return self.to("cpu")

    def cuda(self: M, device: Any = None) -> M:
        """Move all parameters and buffers to a GPU, the current one by default."""
        return self.to("cuda" if device is None else device)

    # State

    def state_dict(
        self,
        *,
        destination: Any = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> Any:
        """The parameters and persistent buffers by dotted name.

        The tensors share memory with the module; with ``keep_vars=True`` they are the parameters
        themselves, otherwise they are detached.
        """
        if destination is None:
            destination = OrderedDict()
        for name, member in self._persistent_members():
            destination[prefix + name] = member if keep_vars else member.detach()
        for name, module in self._modules.items():
            if module is not None:
                inner = f"{prefix}{name}."
                module.state_dict(destination=destination, prefix=inner, keep_vars=keep_vars)
        return destination

    def _persistent_members(self) -> Iterator[tuple[str, Any]]:
        for name, parameter in self._parameters.items():
            if parameter is not None:
                yield name, parameter
        for name, buffer in self._buffers.items():
            if buffer is not None and name not in self._non_persistent_buffers_set:
                yield name, buffer

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy parameters and buffers from ``state_dict`` into this module and its submodules.

        Parameters
        ----------
        state_dict : Mapping[str, Tensor]
            As :meth:`state_dict` returns it.
        strict : bool
            Refuse missing and unexpected keys.
        assign : bool
            Put the given tensors in place of the module's own, keeping their dtype and device,
            instead of copying the values.

        Returns
        -------
        IncompatibleKeys
            The missing and the unexpected keys; both are empty if ``strict``.

        Raises
        ------
        RuntimeError
            For keys (if strict) and shapes that do not fit. The module is then unchanged.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        plan: list[tuple[Module, str, Any, Tensor]] = []
        known: set[str] = set()
        missing: list[str] = []
        errors: list[str] = []
        for path, module in self.named_modules(remove_duplicate=False):
            for name, member in module._persistent_members():
                key = f"{path}.{name}" if path else name
                known.add(key)
                if key not in state_dict:
                    missing.append(key)
                    continue
                value = state_dict[key]
                if not isinstance(value, Tensor):
                    errors.append(
                        f'While copying the parameter named "{key}", expected vibetensor.Tensor '
                        f"from checkpoint but received {type(value)}"
                    )
                    continue
                if member.dim() == 0 and tuple(value.shape) == (1,):
                    value = value[0]
                if value.shape != member.shape:
                    errors.append(
                        f"size mismatch for {key}: copying a param with shape {value.shape} from "
                        f"checkpoint, the shape in current model is {member.shape}."
                    )
                    continue
                plan.append((module, name, member, value))
        unexpected = [key for key in state_dict if key not in known]
        if strict:
            summary = (("Missing", missing), ("Unexpected", unexpected))
            errors[:0] = [
                f"{what} key(s) in state_dict: " + ", ".join(f'"{key}"' for key in keys) + ". "
                for what, keys in summary
                if keys
            ]
        if errors:
            listed = "\n\t".join(errors)
            raise RuntimeError(
                f"Error(s) in loading state_dict for {self._get_name()}:\n\t{listed}"
            )
        with no_grad():
            for module, name, member, value in plan:
                if not assign:
                    member.copy_(value)
                    continue
                if isinstance(member, Parameter):
                    if isinstance(value, Parameter):
                        value.requires_grad_(member.requires_grad)
                    else:
                        value = Parameter(value, requires_grad=member.requires_grad)
                setattr(module, name, value)
        return IncompatibleKeys(missing, unexpected)

    def __getstate__(self) -> dict[str, Any]:
        return {
            **self.__dict__,
            "_parameters": self._parameters,
            "_buffers": self._buffers,
            "_modules": self._modules,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        members = dict(state)
        for name in ("_parameters", "_buffers", "_modules"):
            setattr(self, name, members.pop(name))
        self.__dict__.update(members)
        self._set_own_forward("forward" in members)
        self._set_hooked(bool(self._forward_pre_hooks or self._forward_hooks))

    # Hooks

    def _add_hook(
        self, hooks: OrderedDict[int, _Hook], hook: _Hook, prepend: bool
    ) -> RemovableHandle:
        handle = RemovableHandle(hooks)
        hooks[handle.id] = hook
        if prepend:
            hooks.move_to_end(handle.id, last=False)
        self._set_hooked(True)
        return handle

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args)`` before every ``forward``.

        What it returns, unless None, takes the place of the positional arguments. With
        ``with_kwargs=True`` it is called ``hook(module, args, kwargs)`` and returns both.
        """
        return self._add_hook(self._forward_pre_hooks, _Hook(hook, with_kwargs, False), prepend)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after every ``forward``.

        What it returns, unless None, takes the place of the output. With ``with_kwargs=True`` it
        is called ``hook(module, args, kwargs, output)``; with ``always_call=True`` also, with
        output None, where ``forward`` or an earlier hook raised.
        """
        return self._add_hook(self._forward_hooks, _Hook(hook, with_kwargs, always_call), prepend)

    def _call_with_hooks(self, *args: Any, **kwargs: Any) -> Any:
        """What a call of the module does while hooks may be registered."""
        if not self._forward_pre_hooks and not self._forward_hooks:
            self._set_hooked(False)  # their handles removed them all
            return self.forward(*args, **kwargs)
        called: set[int] = set()
        try:
            for hook in tuple(self._forward_pre_hooks.values()):
                args, kwargs = self._call_pre_hook(hook, args, kwargs)
            output = self.forward(*args, **kwargs)
            for key, hook in tuple(self._forward_hooks.items()):
                called.add(key)
                given = (args, kwargs) if hook.with_kwargs else (args,)
                changed = hook.function(self, *given, output)
                if changed is not None:
                    output = changed
            return output
        except Exception:
            for key, hook in tuple(self._forward_hooks.items()):
                if hook.always_call and key not in called:
                    given = (args, kwargs) if hook.with_kwargs else (args,)
                    hook.function(self, *given, None)
            raise

    def _call_pre_hook(
        self, hook: _Hook, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if hook.with_kwargs:
            changed = hook.function(self, args, kwargs)
            if changed is None:
                return args, kwargs
            if not isinstance(changed, tuple) or len(changed) != 2:
                raise RuntimeError(
                    "forward pre-hook must return None or a tuple of (new_args, new_kwargs), but "
                    f"got {changed}."
                )
            return changed
        changed = hook.function(self, args)
        if changed is None:
            return args, kwargs
        return (changed if isinstance(changed, tuple) else (changed,)), kwargs

    # Printing

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What stands between the brackets of the module's ``repr``."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): {_indent(repr(module))}" for name, module in self._modules.items()]
        name = self._get_name()
        if not children and len(lines) <= 1:
            return f"{name}({extra})"
        return f"{name}(\n  " + "\n  ".join(lines + children) + "\n)"

    def __dir__(self) -> list[str]:
        names = set(super().__dir__())
        for registry in (self._parameters, self._buffers, self._modules):
            names.update(registry or ())
        return sorted(names)


def _parse_to(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, bool]:
    """The (device, dtype, non_blocking) that the arguments of ``Module.to`` ask for."""
    options = dict(kwargs)
    target = options.pop("device", None)
    kind = options.pop("dtype", None)
    non_blocking = options.pop("non_blocking", False)
    options.pop("memory_format", None)
    tensor = options.pop("tensor", None)
    if options:
        raise TypeError(f"to() got an unexpected keyword argument '{next(iter(options))}'")
    for position, value in enumerate(args):
        if isinstance(value, Tensor) and position == 0:
            tensor = value
        elif isinstance(value, dtype):
            kind = value
        elif isinstance(value, bool):
            non_blocking = value
        elif isinstance(value, (device, str, int)) and position == 0:
            target = value
        elif value is not None:
            raise TypeError(
                "to(): expected a device, a dtype or a Tensor, got "
                f"{_typename(value)} as argument {position + 1}"
            )
    if tensor is not None:
        target, kind = tensor.device, tensor.dtype
    return target, kind, non_blocking


prepare_class(Module)
