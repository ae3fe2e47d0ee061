"""Machine code of a Triton kernel with what its launch must know, and the places where it is kept:
the archive that was built with the package, and the disk cache.

Knows nothing of Triton, so that shipped kernels run where it is not installed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import tempfile
import zipfile

FORMAT = 2  # of the bytes below: part of every key
ARCHIVE = pathlib.Path(__file__).with_name("kernels.zip")


@dataclasses.dataclass(frozen=True)
class Descriptor:
    """How the memory of a host descriptor is read (CUtensorMap's words)."""

    dtype: int
    swizzle: int
    element_bytes: int
    box: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Image:
    """Machine code for one capability."""

    name: str
    cubin: bytes
    num_warps: int
    num_ctas: int
    shared: int
    cooperative: bool
    dependent: bool
    global_scratch: int
    argument_bytes: int
    pointers: int
    descriptors: tuple[Descriptor, ...] = ()
    parameters: tuple[int, ...] = ()  # offsets in the packed arguments, if there are descriptors

    def to_bytes(self) -> bytes:
        """A line of JSON, then the code."""
        header = dataclasses.asdict(self) | {"cubin": hashlib.sha256(self.cubin).hexdigest()}
        return json.dumps(header).encode() + b"\n" + self.cubin

    @classmethod
    def from_bytes(cls, data: bytes) -> Image:
        """Raises ValueError where these are not the bytes of an image."""
        line, _, cubin = data.partition(b"\n")
        header = json.loads(line)
        if header["cubin"] != hashlib.sha256(cubin).hexdigest():
            raise ValueError("a damaged image")
        descriptors = tuple(
            Descriptor(**{**d, "box": tuple(d["box"])}) for d in header["descriptors"]
        )
        parameters = tuple(header["parameters"])
        given = {"cubin": cubin, "descriptors": descriptors, "parameters": parameters}
        return cls(**{**header, **given})


def key_of(*parts: object) -> str:
    """A name for what these parts determine."""
    return hashlib.sha256("\0".join(map(str, (FORMAT, *parts))).encode()).hexdigest()


# --- the archive ----------------------------------------------------------------------------------


@functools.cache
def _archive() -> zipfile.ZipFile | None:
    return zipfile.ZipFile(ARCHIVE) if ARCHIVE.exists() else None


def has_archive() -> bool:
    """Whether machine code was built with the package."""
    return _archive() is not None


def shipped(source: str, text: str, capability: int) -> Image | None:
    """The image that the package has, if it has one."""
    archive = _archive()
    if archive is None:
        return None
    try:
        return Image.from_bytes(archive.read(key_of(source, text, capability)))
    except KeyError:
        return None


# --- the disk cache -------------------------------------------------------------------------------


def cache_folder() -> pathlib.Path:
    """``VIBETENSOR_CACHE_DIR``, or ``~/.cache/vibetensor``."""
    given = os.environ.get("VIBETENSOR_CACHE_DIR")
    return pathlib.Path(given) if given else pathlib.Path.home() / ".cache" / "vibetensor"


def cached(key: str) -> Image | None:
    """The image kept under this name; a file that cannot be read or is damaged counts as none."""
    try:
        return Image.from_bytes((cache_folder() / "triton" / key).read_bytes())
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(key: str, image: Image) -> None:
    """Puts an image on disk. Readers and other writers see all of it or nothing; where the folder
    cannot be written, every process compiles for itself."""
    folder = cache_folder() / "triton"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(dir=folder, prefix="tmp-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(image.to_bytes())
            os.replace(path, folder / key)
        except BaseException:
            os.unlink(path)
            raise
