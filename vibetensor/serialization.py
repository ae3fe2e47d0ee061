"""``save`` and ``load``: nested containers of tensors in one safetensors file. Nothing is pickled.

The file is an ordinary safetensors file: eight bytes with the length of a JSON header, the header,
and the elements of all tensors one after the other. The header's free text (``__metadata__``)
additionally holds

``vibetensor.structure``
    The saved object as JSON, with names in place of the tensors.
``vibetensor.sha256``
    Checksum of everything after the first eight bytes, taken with this field's digits as zeros.

Files that others wrote carry neither; ``load`` returns their tensors as a dictionary.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

import numpy as np

import vibetensor as vt
from vibetensor.core.dtype import DTYPES
from vibetensor.core.tensor import Tensor

# The names that the format gives to element types, and the bytes of one element.
_DTYPES = {
    "BOOL": (DTYPES["bool"], 1),
    "U8": (DTYPES["uint8"], 1),
    "I8": (DTYPES["int8"], 1),
    "I16": (DTYPES["int16"], 2),
    "I32": (DTYPES["int32"], 4),
    "I64": (DTYPES["int64"], 8),
    "F16": (DTYPES["float16"], 2),
    "BF16": (DTYPES["bfloat16"], 2),
    "F32": (DTYPES["float32"], 4),
    "F64": (DTYPES["float64"], 8),
    "C64": (DTYPES["complex64"], 8),
}
_NAMES = {kind: name for name, (kind, _) in _DTYPES.items()}

_STRUCTURE = "vibetensor.structure"
_CHECKSUM = "vibetensor.sha256"
_NO_CHECKSUM = "0" * 64
# The format's own limit on the header.
_MAX_HEADER = 100_000_000
_CHUNK = 1 << 24


def save(obj: Any, path: str | os.PathLike[str]) -> None:
    """Write an object to a safetensors file, all of it or nothing.

    The file appears under its name only when it is complete and on the disk; a file that was there
    before stays until then.

    Parameters
    ----------
    obj
        Dictionaries (keys: str, int, float, bool or None), lists and tuples, nested in any way, of
        tensors (any dtype, device and strides), numbers, strings, booleans and None. Subclasses of
        these are saved as the plain type. Tensors that share memory are written once for each
        name, except where one tensor object occurs several times.
    path : str or path-like
        Where to write.

    Raises
    ------
    TypeError
        For anything else in ``obj``; the message says where.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import vibetensor as vt
    >>> vt.save({"weight": vt.ones(2), "epoch": 3}, "/tmp/example.safetensors")
    >>> vt.load("/tmp/example.safetensors")["epoch"]
    3
    """
    path = os.fspath(path)
    if not isinstance(path, str):
        raise TypeError(f"save(): path must be a str or path-like, got {type(path).__name__}")
    tensors: dict[str, Tensor] = {}
    structure = _Encoder(tensors).encode(obj, ())
    header, order = _header(structure, tensors)
    target = os.path.realpath(path)  # a link stays a link
    directory = os.path.dirname(target)
    temporary = os.path.join(directory, f".vibetensor-{secrets.token_hex(8)}.tmp")
    with open(temporary, "xb") as file:
        try:
            _keep_mode(target, file)
            _write(file, header, (tensors[name] for name in order))
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    _sync_directory(directory)


class _Encoder:
    """Turns an object into JSON values, and collects its tensors under dotted names.

    A container becomes an object of one key that tells its kind; everything else stands for itself.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors
        self.names: dict[int, str] = {}
        self.open: set[int] = set()

    def encode(self, obj: Any, path: tuple[str, ...]) -> Any:
        if obj is None or isinstance(obj, (bool, str)):
            return obj
        if isinstance(obj, Tensor):
            return {"tensor": self._name(obj, path)}
        if isinstance(obj, int):
            return int(obj)
        if isinstance(obj, float):
            # JSON has no nan and no infinities.
            return float(obj) if math.isfinite(obj) else {"float": repr(float(obj))}
        if not isinstance(obj, (dict, list, tuple)):
            raise TypeError(
                f"save(): cannot save {_where(path)}: expected a Tensor, dict, list, tuple, str, "
                f"int, float, bool or None, got {type(obj).__name__}"
            )
        if id(obj) in self.open:
            raise TypeError(f"save(): cannot save {_where(path)}: the container contains itself")
        self.open.add(id(obj))
        try:
            return self._encode_container(obj, path)
        finally:
            self.open.remove(id(obj))

    def _encode_container(self, obj: Any, path: tuple[str, ...]) -> Any:
        if isinstance(obj, dict):
            pairs = []
            for key, value in obj.items():
                if not (key is None or isinstance(key, (str, int, float))):
                    raise TypeError(
                        f"save(): cannot save {_where(path)}: dict keys must be str, int, float, "
                        f"bool or None, got {type(key).__name__}"
                    )
                pairs.append([self.encode(key, path), self.encode(value, (*path, str(key)))])
            return {"dict": pairs}
        kind = "list" if isinstance(obj, list) else "tuple"
        return {kind: [self.encode(value, (*path, str(i))) for i, value in enumerate(obj)]}

    def _name(self, tensor: Tensor, path: tuple[str, ...]) -> str:
        name = self.names.get(id(tensor))
        if name is not None and len(path) != 1:
            return name
        # Every tensor of a flat dictionary gets an entry of its own: others read only the names.
        base = name = ".".join(path) or "tensor"
        number = 1
        while name in self.tensors or name == "__metadata__":
            number += 1
            name = f"{base}#{number}"
        self.names[id(tensor)] = name
        self.tensors[name] = tensor
        return name


def _where(path: tuple[str, ...]) -> str:
    return "the object" if not path else "the value at " + "".join(f"[{key!r}]" for key in path)


def _header(structure: Any, tensors: dict[str, Tensor]) -> tuple[bytes, list[str]]:
    """The header's bytes, without the checksum, and the order of the tensors in the file."""
    wide = [name for name, tensor in tensors.items() if tensor.dtype == vt.complex128]
    # The format has no complex128: such a tensor is stored as pairs of float64.
    content: dict[str, Any] = {"value": structure}
    if wide:
        content["complex128"] = wide
    entries: dict[str, Any] = {
        "__metadata__": {
            "format": "pt",
            _STRUCTURE: json.dumps(content, separators=(",", ":"), allow_nan=False),
            _CHECKSUM: _NO_CHECKSUM,
        }
    }
    offset = 0
    # Large elements first keeps every tensor aligned to its own element.
    order = sorted(tensors, key=lambda name: -_element_size(tensors[name]))
    for name in order:
        tensor = tensors[name]
        shape = list(tensor.shape)
        kind = _NAMES.get(tensor.dtype)
        if tensor.dtype == vt.complex128:
            shape, kind = [*shape, 2], "F64"
        if kind is None:
            raise TypeError(f"save(): cannot save a tensor of dtype {tensor.dtype}")
        end = offset + math.prod(shape) * _DTYPES[kind][1]
        entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    return header + b" " * (-len(header) % 8), order


def _element_size(tensor: Tensor) -> int:
    kind = _NAMES.get(tensor.dtype)
    return 16 if kind is None else _DTYPES[kind][1]


def _write(file: BinaryIO, header: bytes, tensors: Iterator[Tensor]) -> None:
    digest = hashlib.sha256(header)
    file.write(len(header).to_bytes(8, "little"))
    file.write(header)
    for tensor in tensors:
        elements = _bytes_of(tensor.detach().cpu().contiguous())
        digest.update(elements)
        file.write(elements)
    # The checksum is known only now; its place in the header has the right width.
    file.seek(8 + _checksum_place(header))
    file.write(digest.hexdigest().encode())


def _checksum_place(header: bytes) -> int:
    """Where the digits of the checksum stand in the header; -1 if there is none."""
    match = re.search(rb'"vibetensor\.sha256":"([0-9a-f]{64})"', header)
    return match.start(1) if match else -1


def _bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous CPU tensor."""
    if tensor.dtype == vt.bfloat16:
        tensor = tensor.view(vt.int16)  # numpy has no bfloat16
    # Flat, because a view of another item size needs at least one dimension.
    return memoryview(tensor.reshape(-1).numpy().view(np.uint8))


def _keep_mode(path: str, file: BinaryIO) -> None:
    """Give the new file the mode of the one that it replaces."""
    if os.path.exists(path):
        os.fchmod(file.fileno(), stat.S_IMODE(os.stat(path).st_mode))


def _sync_directory(directory: str) -> None:
    """Make the new name durable, where the file system lets a directory be synchronised."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def load(path: str | os.PathLike[str], map_location: Any = None) -> Any:
    """Read a file that :func:`save`, or any safetensors library, has written.

    The whole file is checked before anything is returned: its length, the header, that the tensors
    fill the file without gap or overlap, and the checksum if there is one.

    Parameters
    ----------
    path : str or path-like
        The file.
    map_location : str or device, optional
        Where the tensors go; the CPU when left out.

    Returns
    -------
    object
        What was saved, or a dictionary of tensors if another library wrote the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    RuntimeError
        If the file is truncated, damaged, or holds an element type that is not supported.
    """
    path = os.fspath(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        raw = _read_header(path, file, size)
        metadata, header = _parse_header(path, raw)
        entries = {name: _entry(path, name, value) for name, value in header.items()}
        _check_offsets(path, entries, size - 8 - len(raw))
        content = _structure(path, metadata, entries)
        place = _checksum_place(raw)
        if place < 0 and (_CHECKSUM in metadata or _STRUCTURE in metadata):
            _refuse(path, "its checksum is damaged")
        tensors = _read_tensors(path, file, raw, place, entries)
    for name in content.get("complex128", ()):
        tensors[name] = _as_complex128(path, name, tensors.get(name))
    if map_location is not None:
        tensors = {name: tensor.to(map_location) for name, tensor in tensors.items()}
    if "value" not in content:
        return tensors
    return _Decoder(path, tensors).decode(content["value"])


def _refuse(path: str, reason: str, cause: BaseException | None = None) -> NoReturn:
    raise RuntimeError(f"load(): '{path}' is not a valid safetensors file: {reason}") from cause


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _read_header(path: str, file: BinaryIO, size: int) -> bytes:
    prefix = file.read(8)
    if len(prefix) < 8:
        _refuse(path, f"it has {size} bytes, too few for a header")
    length = int.from_bytes(prefix, "little")
    if length > _MAX_HEADER:
        _refuse(path, f"its header would have {length} bytes, more than the {_MAX_HEADER} allowed")
    raw = file.read(length)
    if len(raw) != length:
        _refuse(path, f"it is truncated: its header has {length} bytes, {len(raw)} are there")
    return raw


def _parse_header(path: str, raw: bytes) -> tuple[dict[str, str], dict[str, Any]]:
    """The header's free text and its entries."""
    try:
        header = json.loads(raw.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        _refuse(path, f"its header is not JSON ({error})", error)
    if not isinstance(header, dict) or not raw.startswith(b"{"):
        _refuse(path, "its header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        _refuse(path, "its __metadata__ is not a table of strings")
    return metadata, header


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _entry(path: str, name: str, value: Any) -> tuple[str, list[int], int, int]:
    """The (dtype name, shape, begin, end) of one tensor."""
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        _refuse(path, f"the entry of tensor '{name}' is not dtype, shape and data_offsets")
    kind, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(kind, str) or kind not in _DTYPES:
        _refuse(
            path,
            f"tensor '{name}' has dtype {kind!r}, expected one of {sorted(_DTYPES)}",
        )
    if not isinstance(shape, list) or not all(map(_is_count, shape)):
        _refuse(path, f"the shape of tensor '{name}' is {shape!r}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_count, offsets)):
        _refuse(path, f"the data_offsets of tensor '{name}' are {offsets!r}")
    begin, end = offsets
    wanted = math.prod(shape) * _DTYPES[kind][1]
    if end - begin != wanted:
        _refuse(
            path,
            f"tensor '{name}' of shape {shape} and dtype {kind} needs {wanted} bytes, but its "
            f"data_offsets {offsets} have {end - begin}",
        )
    return kind, shape, begin, end


def _check_offsets(path: str, entries: dict[str, Any], available: int) -> None:
    """The tensors must follow one another and fill the rest of the file."""
    position = 0
    for name, (_, _, begin, end) in _in_file_order(entries):
        if begin != position:
            what = "overlaps the one before it" if begin < position else "leaves a gap before it"
            _refuse(path, f"the data of tensor '{name}' {what} (offset {begin}, not {position})")
        position = end
    if position != available:
        what = "truncated" if available < position else "too long"
        _refuse(path, f"it is {what}: its tensors have {position} bytes, {available} are there")


def _in_file_order(entries: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted(entries.items(), key=lambda item: item[1][2:])


def _structure(path: str, metadata: dict[str, str], entries: dict[str, Any]) -> dict[str, Any]:
    """The saved object with names in place of tensors; empty for a file of another library."""
    if _STRUCTURE not in metadata:
        return {}
    try:
        content = json.loads(metadata[_STRUCTURE])
    except (ValueError, RecursionError) as error:
        _refuse(path, f"its {_STRUCTURE} is not JSON ({error})", error)
    if not isinstance(content, dict) or "value" not in content:
        _refuse(path, f"its {_STRUCTURE} has no value")
    wide = content.get("complex128", [])
    if not isinstance(wide, list) or any(name not in entries for name in wide):
        _refuse(path, f"its {_STRUCTURE} names a tensor that is not there")
    return content


def _read_tensors(
    path: str, file: BinaryIO, raw: bytes, place: int, entries: dict[str, Any]
) -> dict[str, Tensor]:
    expected = raw[place : place + 64].decode() if place >= 0 else None
    digest = hashlib.sha256()
    if expected is not None:
        digest.update(raw[:place] + _NO_CHECKSUM.encode() + raw[place + 64 :])
    tensors = {}
    for name, (kind, shape, _, _) in _in_file_order(entries):
        tensor = tensors[name] = vt.empty(shape, dtype=_DTYPES[kind][0])
        target = _bytes_of(tensor)
        for begin in range(0, len(target), _CHUNK):
            chunk = target[begin : begin + _CHUNK]
            if file.readinto(chunk) != len(chunk):  # type: ignore[attr-defined]
                _refuse(path, f"it ends within tensor '{name}'")
            if kind == "BOOL" and np.frombuffer(chunk, np.uint8).max() > 1:
                _refuse(path, f"tensor '{name}' has booleans other than 0 and 1")
            if expected is not None:
                digest.update(chunk)
    if expected is not None and digest.hexdigest() != expected:
        _refuse(path, "its checksum does not match its content; the file is damaged")
    # In the order of the header, which is the order that whoever wrote the file chose.
    return {name: tensors[name] for name in entries}


def _as_complex128(path: str, name: str, tensor: Tensor | None) -> Tensor:
    if tensor is None or tensor.dtype != vt.float64 or tuple(tensor.shape[-1:]) != (2,):
        _refuse(path, f"tensor '{name}' is not pairs of float64")
    result = vt.empty(tensor.shape[:-1], dtype=vt.complex128)
    _bytes_of(result)[:] = _bytes_of(tensor)
    return result


class _Decoder:
    """Rebuilds the object that :class:`_Encoder` described."""

    def __init__(self, path: str, tensors: dict[str, Tensor]) -> None:
        self.path = path
        self.tensors = tensors

    def decode(self, node: Any) -> Any:
        if not isinstance(node, dict):
            if isinstance(node, list):
                _refuse(self.path, f"its {_STRUCTURE} has a list without a kind")
            return node
        if len(node) != 1:
            _refuse(self.path, f"its {_STRUCTURE} has a container of {len(node)} kinds")
        ((kind, value),) = node.items()
        try:
            if kind == "tensor":
                return self.tensors[value]
            if kind == "float":
                return float(value)
            if kind == "dict":
                return {self.decode(key): self.decode(item) for key, item in value}
            if kind == "list":
                return [self.decode(item) for item in value]
            if kind == "tuple":
                return tuple(self.decode(item) for item in value)
        except (KeyError, TypeError, ValueError) as error:
            _refuse(self.path, f"its {_STRUCTURE} is damaged ({error!r})", error)
        _refuse(self.path, f"its {_STRUCTURE} has a container of unknown kind {kind!r}")
