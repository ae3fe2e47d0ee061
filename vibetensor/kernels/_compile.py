"""From a kernel and a specialisation to machine code. Triton is the compiler and nothing else: it
launches nothing, needs no C compiler, and PyTorch is not imported."""

from __future__ import annotations

import importlib.util
import tempfile
import threading
from typing import Any

from vibetensor.kernels import _image
from vibetensor.kernels._image import Descriptor, Image
from vibetensor.kernels._spec import DESCRIPTOR, Spec, find_kernel, layout

# Triton numbers the element types of descriptors in another order than the driver from here on.
DEVICE_TO_HOST_DTYPE = {8: 10, 9: 8, 10: 9}

_lock = threading.RLock()
_images: dict[tuple[str, str, int], Image] = {}
requested: dict[tuple[str, str], None] = {}  # sources and specialisations that were asked for


class MissingTriton(RuntimeError):
    """There is neither machine code for a kernel nor the package that makes it."""


def installed() -> bool:
    """Whether Triton can be imported."""
    return importlib.util.find_spec("triton") is not None


def find(source: str, text: str, major: int, minor: int, simulated: bool) -> Image:
    """The image of a kernel for a device: shipped, cached or compiled.

    `source` is ``"folder/file.py:function"``, `text` a specialisation (see _spec).

    Raises
    ------
    MissingTriton
        If it must be compiled and Triton is not installed.
    TypeError
        If the specialisation does not fit the kernel.
    """
    capability, text = 10 * major + minor, text.strip()
    with _lock:
        requested[source, text] = None
        image = _images.get((source, text, capability))
        if image is None:
            image = (simulate if simulated else _find)(source, text, capability)
            _images[source, text, capability] = image
        return image


def _find(source: str, text: str, capability: int) -> Image:
    if image := _image.shipped(source, text, capability):
        return image
    if not installed():
        # Code for x.0 runs on every x.y (from 9.0 on Triton compiles for one capability alone).
        if capability < 90 and (image := _image.shipped(source, text, capability // 10 * 10)):
            return image
        raise MissingTriton(
            f"{source} is not among the kernels that were built with vibetensor, and the package "
            "triton is missing: pip install 'vibetensor[cuda]'"
        )
    kernel, spec = find_kernel(source), Spec.parse(text)
    key = _image.key_of(kernel.cache_key, text, capability, *_compiler(capability))
    image = _image.cached(key)
    if image is None:
        image = compile(kernel, spec, capability)
        _image.keep(key, image)
    return image


def _compiler(capability: int) -> tuple[str, str, str]:
    """What the compiler's output depends on: its version, that of ptxas, settings."""
    import triton
    from triton._C.libtriton import get_cache_invalidating_env_vars
    from triton.backends.compiler import GPUTarget
    from triton.compiler.compiler import make_backend

    ptxas = make_backend(GPUTarget("cuda", capability, 32)).hash()
    return triton.__version__, ptxas, str(sorted(get_cache_invalidating_env_vars().items()))


def compile(kernel: Any, spec: Spec, capability: int) -> Image:
    """Compiles a ``@triton.jit`` or ``@gluon.jit`` function for a capability such as 90."""
    import triton
    from triton import knobs
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.experimental.gluon._runtime import GluonASTSource

    said = spec.of(kernel)
    source_class = GluonASTSource if kernel.is_gluon() else ASTSource
    source = source_class(kernel, said.signature, said.constants, said.attributes)
    # The image is kept by us; what Triton writes on its way is not needed afterwards.
    with tempfile.TemporaryDirectory(prefix="vibetensor-") as folder, knobs.cache.scope():
        knobs.cache.dir = folder
        compiled = triton.compile(
            source, target=GPUTarget("cuda", capability, 32), options=said.options
        )
    return image_of(compiled, spec.types)


def image_of(compiled: Any, types: list[str]) -> Image:
    """The image in a ``CompiledKernel`` whose arguments (without constexpr) have these types."""
    m = compiled.metadata
    if getattr(m, "profile_scratch_size", 0):
        raise RuntimeError(f"{m.name}: Triton's instrumentation is not supported")
    metas = getattr(m, "tensordesc_meta", None) or []
    if len(metas) != sum(t.startswith("tensordesc") for t in types):
        raise TypeError(f"{m.name}: tensor descriptors need a device of capability 9.0")
    lies = layout(types)
    return Image(
        name=m.name,
        cubin=compiled.asm["cubin"],
        num_warps=m.num_warps,
        num_ctas=m.num_ctas,
        shared=m.shared,
        cooperative=m.launch_cooperative_grid,
        dependent=m.launch_pdl,
        global_scratch=m.global_scratch_size or 0,
        argument_bytes=lies.size,
        pointers=lies.pointers,
        parameters=tuple(lies.parameters) if metas else (),
        descriptors=tuple(
            Descriptor(
                dtype=DEVICE_TO_HOST_DTYPE.get(d["elem_type"], d["elem_type"]),
                swizzle=d["swizzle"],
                element_bytes=d["elem_size"],
                box=tuple(d["block_size"]),
            )
            for d in metas
        ),
    )


def simulate(source: str, text: str, capability: int) -> Image:
    """For the simulated driver, which runs no code: what a launch must know, without the code."""
    spec = Spec.parse(text)
    if installed():
        spec.of(find_kernel(source))
    elif not _image.shipped(source, text, capability):
        raise MissingTriton(f"{source}: the package triton is missing")
    lies = layout(spec.types)
    blocks = [DESCRIPTOR.match(t) for t in spec.types]
    return Image(
        name=source.partition(":")[2],
        cubin=b"",
        num_warps=spec.values.get("num_warps", 4),
        num_ctas=spec.values.get("num_ctas", 1),
        shared=0,
        cooperative=False,
        dependent=False,
        global_scratch=0,
        argument_bytes=lies.size,
        pointers=lies.pointers,
        descriptors=tuple(
            Descriptor(
                0, 0, 4 if b[1] == "fp32" else 2, tuple(min(int(n), 256) for n in b[2].split(","))
            )
            for b in blocks
            if b
        ),
    )
