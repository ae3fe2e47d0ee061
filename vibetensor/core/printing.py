"""The text of a tensor, laid out as PyTorch does.

A large tensor is cut to the items at its edges first; the format (fixed or scientific, how many
columns) is chosen from the items that are shown, and every item gets the same width.
"""

import math
from contextlib import contextmanager
from typing import Any

from vibetensor.core.device import get_default_device
from vibetensor.core.dtype import DTYPES, get_default_dtype

_PREFIX = "tensor("
_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}
_options: dict[str, Any] = {**_PROFILES["default"], "sci_mode": None}


def set_printoptions(
    precision=None, threshold=None, edgeitems=None, linewidth=None, profile=None, sci_mode=None
):
    """Sets how tensors are printed; what is None stays as it is.

    Parameters
    ----------
    precision : int
        Digits behind the point of floating-point numbers (4 at the start).
    threshold : int
        Tensors of more elements are summarised (1000).
    edgeitems : int
        Items shown at each end of a summarised dimension (3).
    linewidth : int
        Characters per line (80).
    profile : "default", "short" or "full"
        A set of the values above.
    sci_mode : bool
        Whether to use scientific notation; None chooses it by the size of the numbers.

    Example
    -------
    >>> vt.set_printoptions(precision=2)
    >>> vt.tensor([1.12345])
    tensor([1.12])
    """
    if profile is not None:
        if profile not in _PROFILES:
            raise ValueError(
                f"set_printoptions(): profile must be one of {list(_PROFILES)}, got {profile!r}"
            )
        _options.update(_PROFILES[profile])
    given = {
        "precision": precision,
        "threshold": threshold,
        "edgeitems": edgeitems,
        "linewidth": linewidth,
    }
    _options.update((name, value) for name, value in given.items() if value is not None)
    _options["sci_mode"] = sci_mode


def get_printoptions():
    """The present print options, as a dictionary.

    >>> vt.get_printoptions()["precision"]
    4
    """
    return dict(_options)


@contextmanager
def printoptions(**options):
    """Print options for the length of a ``with`` block; see :func:`set_printoptions`.

    >>> with vt.printoptions(precision=2):
    ...     print(vt.tensor([1.12345]))
    tensor([1.12])
    """
    before = get_printoptions()
    try:
        set_printoptions(**options)
        yield
    finally:
        _options.update(before)


class _Real:
    """The common format of real numbers."""

    def __init__(self, numbers, floating):
        self.precision = _options["precision"]
        self.floating = floating
        self.scientific = False
        self.whole = True
        self.width = 1
        if floating:
            numbers = [x for x in numbers if x != 0 and math.isfinite(x)]
            if numbers:
                self.choose(numbers)
        self.width = max([1, *(len(self.text(x)) for x in numbers)])

    def choose(self, numbers):
        """Fixed point for numbers that need few columns, else scientific notation."""
        low = min(abs(x) for x in numbers)
        high = max(abs(x) for x in numbers)
        self.whole = all(x.is_integer() for x in numbers)
        self.scientific = _options["sci_mode"]
        if self.scientific is None:
            self.scientific = high / low > 1000 or high > 1e8 or low < 1e-4

    def text(self, x):
        if not self.floating:
            return str(x)
        if self.scientific:
            return f"{x:.{self.precision}e}"
        if self.whole:
            return f"{x:.0f}." if math.isfinite(x) else f"{x:.0f}"
        return f"{x:.{self.precision}f}"

    def __call__(self, x):
        return self.text(x).rjust(self.width)

    @property
    def columns(self):
        """How many characters a number takes."""
        return self.width


class _Complex:
    """The common format of complex numbers: one for each part."""

    def __init__(self, numbers):
        self.real = _Real([z.real for z in numbers], True)
        self.imag = _Real([z.imag for z in numbers], True)

    def __call__(self, z):
        imag = self.imag(z.imag).lstrip() + "j"
        return self.real(z.real) + ("" if imag[0] in "+-" else "+") + imag

    @property
    def columns(self):
        return self.real.width + self.imag.width + 1


def _visible(t, summarize):
    """The items to show as nested lists, with Ellipsis in place of what is left out."""
    if t.ndim == 0:
        return t.item()
    edge = _options["edgeitems"]
    if not summarize or len(t) <= 2 * edge:
        return t.tolist() if t.ndim == 1 else [_visible(row, summarize) for row in t]
    if t.ndim == 1:
        return [*t[:edge].tolist(), ..., *t[len(t) - edge :].tolist()]
    first = [_visible(t[i], summarize) for i in range(edge)]
    last = [_visible(t[i], summarize) for i in range(len(t) - edge, len(t))]
    return [*first, ..., *last]


def _flat(items):
    if not isinstance(items, list):
        return [items]
    return [x for item in items if item is not ... for x in _flat(item)]


def _row(items, style, indent):
    """A list of numbers, broken into lines."""
    omitted = " ..." if len(items) > 1 else "..."
    texts = [omitted if x is ... else style(x) for x in items]
    per_line = max(1, (_options["linewidth"] - indent) // (style.columns + 2))
    lines = [", ".join(texts[i : i + per_line]) for i in range(0, len(texts), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _nested(items, style, ndim, indent):
    if ndim == 0:
        return style(items)
    if ndim == 1:
        return _row(items, style, indent)
    parts = ["..." if x is ... else _nested(x, style, ndim - 1, indent + 1) for x in items]
    return "[" + ("," + "\n" * (ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def _numbers(t):
    """The brackets and numbers of a tensor with elements."""
    items = _visible(t, t.numel() > _options["threshold"])
    flat = _flat(items)
    style = _Complex(flat) if t.dtype.is_complex else _Real(flat, t.dtype.is_floating_point)
    return _nested(items, style, t.ndim, len(_PREFIX))


def _suffixes(t):
    """What is said behind the numbers: device, size, dtype, history."""
    found = []
    default = get_default_dtype()
    if t.device.type not in ("meta", get_default_device().type):
        found.append(f"device='{t.device}'")
    if t.device.type == "meta":
        found.append(f"device='meta', size={tuple(t.shape)}")
    elif t.numel() == 0 and t.ndim != 1:
        found.append(f"size={tuple(t.shape)}")
    # Numbers of these dtypes show by themselves what they are.
    plain = {default, default.to_complex(), DTYPES["int64"], DTYPES["bool"]}
    if t.dtype not in ({default} if t.numel() == 0 or t.device.type == "meta" else plain):
        found.append(f"dtype={t.dtype}")
    if t.grad_fn is not None:
        name = t.grad_fn.name() if hasattr(t.grad_fn, "name") else type(t.grad_fn).__name__
        found.append(f"grad_fn=<{name}>")
    elif t.requires_grad:
        found.append("requires_grad=True")
    return found


def tensor_repr(t):
    """The text of ``repr(t)``."""
    suffixes = _suffixes(t)
    if t.device.type == "meta":
        text = _PREFIX + "..."
    elif t.numel() == 0:
        text = _PREFIX + "[]"
    else:
        host = t.cpu() if t.numel() <= _options["threshold"] else t  # one copy, not one a row
        text = _PREFIX + _numbers(host.detach())
    used = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if used + len(suffix) + 2 > _options["linewidth"]:
            text += ",\n" + " " * len(_PREFIX) + suffix
            used = len(_PREFIX) + len(suffix)
        else:
            text += ", " + suffix
            used += len(suffix) + 2
    return text + ")"
