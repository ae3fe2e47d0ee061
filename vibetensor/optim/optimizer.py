"""The base of all optimizers: parameter groups, state and their dictionaries."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from vibetensor.autograd.grad_mode import enable_grad, no_grad
from vibetensor.core import capture
from vibetensor.core.tensor import Tensor


class Optimizer:
    """Holds parameters in groups, each with its own options, and a state for every parameter.

    A subclass sets ``defaults`` through ``super().__init__`` and overrides :meth:`_update` (or
    :meth:`step` as a whole).

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        The parameters, or groups ``{"params": [...], option: value, ...}``.
    defaults : dict
        The options of groups that do not set them.
    """

    # For amp.GradScaler: whether `step` looks at `found_inf`, and the 0-d float32 tensor that tells
    # it, for the length of a step, not to change anything where it is not zero.
    _step_supports_amp_scaling = False
    found_inf: Tensor | None = None

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or "
                f"dicts, but got {type(params).__name__}"
            )
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with options of its own."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        group = dict(param_group)
        params = group["params"]
        if isinstance(params, Tensor):
            params = [params]
        elif isinstance(params, (set, frozenset)):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the "
                "ordering of tensors in sets will change between runs. Please use a list instead."
            )
        group["params"] = params = list(params)
        for parameter in params:
            if not isinstance(parameter, Tensor):
                raise TypeError(
                    "optimizer can only optimize Tensors, but one of the params is "
                    f"{type(parameter).__name__}"
                )
            if not parameter.is_leaf:
                raise ValueError("can't optimize a non-leaf Tensor")
        for name, value in self.defaults.items():
            group.setdefault(name, value)
        ids = {id(parameter) for parameter in params}
        if len(ids) != len(params):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; "
                "in future, this will cause an error",
                stacklevel=3,
            )
        if any(id(known) in ids for other in self.param_groups for known in other["params"]):
            raise ValueError("some parameters appear in more than one parameter group")
        self.param_groups.append(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if set_to_none:
                    parameter.grad = None
                else:
                    parameter.grad = parameter.grad.detach()
                    parameter.grad.zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters from their gradients.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and its gradients; called first, its result is returned.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with no_grad():
            for group in self.param_groups:
                self._update(group)
        graph = capture.active()
        if graph is not None:
            for group in self.param_groups:
                graph.keep_gradients(group["params"])
        return loss

    def _update(self, group: dict[str, Any]) -> None:
        """Update the parameters of one group; called without gradient recording."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Options and state, with parameters numbered in the order of the groups.

        The layout is PyTorch's: ``{"state": {number: {...}}, "param_groups": [{...}]}``. The
        tensors are the optimizer's own, not copies.
        """
        numbers: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for parameter in group["params"]:
                numbers.setdefault(id(parameter), len(numbers))
            packed = {name: value for name, value in group.items() if name != "params"}
            packed["params"] = [numbers[id(parameter)] for parameter in group["params"]]
            groups.append(packed)
        state = {numbers.get(id(key), key): dict(values) for key, values in self.state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned, here or in PyTorch.

        Tensors are copied, to the device and dtype of their parameter. On an error the optimizer
        keeps what it had.

        Raises
        ------
        ValueError
            If the groups do not match this optimizer's.
        """
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(
            len(theirs["params"]) != len(ours["params"])
            for theirs, ours in zip(saved, self.param_groups, strict=True)
        ):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of "
                "optimizer's group"
            )
        parameters = dict(
            zip(
                chain.from_iterable(group["params"] for group in saved),
                chain.from_iterable(group["params"] for group in self.param_groups),
                strict=True,
            )
        )
        state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        for key, values in state_dict["state"].items():
            parameter = parameters.get(key)
            if parameter is None:
                state[key] = values
            else:
                state[parameter] = {
                    name: self._load_value(parameter, name, value) for name, value in values.items()
                }
        groups = []
        for theirs, ours in zip(saved, self.param_groups, strict=True):
            group = dict(theirs)
            group["params"] = ours["params"]
            for name, value in self.defaults.items():
                group.setdefault(name, value)
            groups.append(group)
        self.state = state
        self.param_groups = groups

    def _load_value(self, parameter: Tensor, name: str, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.detach().clone()
        if name == "step":
            return value  # a count: it keeps its dtype and stays on the host
        if parameter.is_floating_point() and value.is_floating_point():
            return value.to(device=parameter.device, dtype=parameter.dtype)
        return value.to(device=parameter.device)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {number}")
            for name in sorted(group):
                if name != "params":
                    lines.append(f"    {name}: {group[name]}")
        return "\n".join([*lines, ")"])


class Buckets(dict[Any, list[tuple[Any, ...]]]):
    """What one operator can take together, by what it must share: a row for each parameter."""

    def add(self, key: Any, *row: Any) -> None:
        """Append a row to the bucket ``key``."""
        rows = self.get(key)
        if rows is None:
            rows = self[key] = []
        rows.append(row)

    def columns(self) -> Iterator[tuple[Any, list[list[Any]]]]:
        """The keys, each with the lists that the operator takes."""
        for key, rows in self.items():
            yield key, [list(column) for column in zip(*rows, strict=True)]
