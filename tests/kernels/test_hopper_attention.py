"""The Hopper attention kernels as machine code, and the table that chooses among them. No GPU: what they
compute is tested with the operator, on one."""

import re
import subprocess
from pathlib import Path

import pytest

from vibetensor.kernels.attention import hopper_choices as choices

triton = pytest.importorskip("triton")

SHARED_LIMIT = 232448  # bytes a program may have on sm_90
LENGTHS = (1, 63, 512, 513, 1024, 2048, 4096, 4097, 1 << 20)


@pytest.mark.parametrize("D", [64, 128])
def test_every_length_has_a_choice(D):
    for Tq in LENGTHS:
        for causal in (True, False):
            row = choices.forward(D, causal, Tq)
            assert (row.D, row.causal) == (D, causal)
            assert Tq <= row.max_rows
            # A warpgroup has 64 rows, and its aligned diagonal lies in one key block.
            assert row.BM == 64 * row.WARPGROUPS
            assert row.BN % 64 == 0
        for shared in (True, False):
            row = choices.backward(D, Tq, shared)
            assert row.D == D
            assert Tq <= row.max_rows
            assert shared or not row.shared
    assert choices.backward(D, 4096, True).CLEARED and not choices.backward(D, 4096, False).CLEARED


def test_short_rows_of_programs_are_walked_together():
    assert choices.backward_together(causal=True, blocks=4, multiprocessors=132) == 33
    assert choices.backward_together(causal=True, blocks=128, multiprocessors=132) == 2
    assert choices.backward_together(causal=False, blocks=4, multiprocessors=132) == 4


def test_padded_head_size():
    sizes = {dim: choices.padded_head_size(dim) for dim in (8, 32, 64, 72, 96, 128)}
    assert sizes == {8: 64, 32: 64, 64: 64, 72: 128, 96: 128, 128: 128}


def descriptor(dtype, *box):
    from triton.experimental.gluon import language as gl

    element = {"bf16": gl.bfloat16, "fp16": gl.float16, "fp32": gl.float32}[dtype]
    layout = gl.NVMMASharedLayout.get_default_for(list(box), element)
    return f"tensordesc<{dtype}[{', '.join(map(str, box))}],{layout!r}>"


def check_barriers(ir):
    """Barriers that are made ready must be used: the memory of others is given to data, which the
    device may change where a barrier was, when another process has its turn."""
    made = re.findall(r"(%\w+) = ttg\.local_alloc : \(\) -> !ttg\.memdesc<\d+x1xi64", ir)
    assert made or "init_barrier" not in ir
    lines = ir.splitlines()
    for name in made:
        users = [
            line for line in lines if re.search(rf"{name}\b", line) and f"{name} =" not in line
        ]
        slots = [re.match(r"\s*(%\w+) = ttg\.memdesc_index", line) for line in users]
        assert not all(
            slot and any(f"init_barrier {slot[1]}," in line for line in lines) for slot in slots
        ), f"{name} is made ready and not used"


def compiled(kernel, types, constants, num_warps):
    """ptxas' report on a kernel compiled for sm_90, and the shared memory it asks for."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.experimental.gluon._runtime import GluonASTSource

    names = kernel.arg_names
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in names}
    source = GluonASTSource if kernel.is_gluon() else ASTSource
    image = triton.compile(
        source(kernel, signature, {(names.index(n),): v for n, v in constants.items()}),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": num_warps},
    )
    check_barriers(image.asm["ttgir"])
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    report = subprocess.run(
        [tools / "ptxas", "-v", "--gpu-name=sm_90a", "-o", "/dev/null", "/dev/stdin"],
        input=image.asm["ptx"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    return report, image.metadata.shared


def check(report, shared, spill_limit):
    assert "C75" not in report, report  # wgmma serialised, or setmaxnreg ignored
    (spilled,) = re.findall(r"(\d+) bytes spill stores", report)
    assert int(spilled) <= spill_limit
    assert shared <= SHARED_LIMIT


@pytest.mark.parametrize(
    ("D", "causal", "Tq", "dtype", "aligned", "spill_limit"),
    [
        (128, True, 512, "bf16", True, 0),
        (128, True, 8192, "bf16", False, 64),
        (128, False, 8192, "fp16", True, 0),
        (64, True, 512, "fp16", True, 0),
        (64, False, 8192, "bf16", True, 256),  # three warpgroups: 160 registers
    ],
)
def test_forward_compiles(D, causal, Tq, dtype, aligned, spill_limit):
    from vibetensor.kernels.attention.hopper_forward import attention_forward

    row = choices.forward(D, causal, Tq)
    q, k = descriptor(dtype, 1, 1, 64, D), descriptor(dtype, 1, 1, row.BN, D)
    types = {"q_desc": q, "k_desc": k, "v_desc": k, "o_desc": q}
    types |= {"lse_ptr": "*fp32", "counter": "*i32", "scale": "fp32"}
    names = ("BM", "BN", "STAGES", "QUERY_STAGES", "WARPGROUPS", "REGISTERS")
    constants = {n: getattr(row, n) for n in names} | {"CAUSAL": causal, "ALIGNED": aligned}
    check(*compiled(attention_forward, types, constants, 4), spill_limit)


@pytest.mark.parametrize(
    ("D", "causal", "cleared", "dtype", "grouped", "spill_limit"),
    [
        (128, True, False, "bf16", True, 128),  # outside the loop without masks
        (128, False, True, "bf16", False, 64),
        (64, True, False, "fp16", False, 0),
    ],
)
def test_backward_compiles(D, causal, cleared, dtype, grouped, spill_limit):
    from vibetensor.kernels.attention.hopper_backward import attention_backward

    row = choices.backward(D, 512, False)
    q, k = descriptor(dtype, 1, 1, row.BM, D), descriptor(dtype, 1, 1, row.BN, D)
    vector = descriptor("fp32", row.BM)
    types = {"q_desc": q, "do_desc": q, "lse_desc": vector, "delta_desc": vector}
    types |= dict.fromkeys(("k_desc", "v_desc", "dk_desc", "dv_desc"), k)
    types |= {"sum_desc": descriptor("fp32", row.BM, D), "stored_ptr": "*i32"}
    types |= {"scale": "fp32", "scale2": "fp32"}
    constants = {n: getattr(row, n) for n in ("BM", "BN", "STAGES", "SUM_STAGES")}
    constants |= {"CAUSAL": causal, "GROUPED": grouped, "CLEARED": cleared}
    check(*compiled(attention_backward, types, constants, 8), spill_limit)


@pytest.mark.parametrize("dim", [96, 128])
def test_light_backward_kernels_compile(dim):
    from vibetensor.kernels.attention import hopper_backward_rows as backward

    sizes = {"dim": dim, "D": 128, "ROWS": 32}
    for kernel, constants in (
        (backward.attention_backward_prepare, {"CLEAR": False}),
        (backward.attention_backward_finish, {}),
    ):
        types = {n: "i64" for n in kernel.arg_names if n.endswith(("_batch", "_head", "_row"))}
        types |= {n: "*fp32" for n in kernel.arg_names if n.endswith("_ptr")}
        types |= {"o_ptr": "*bf16", "do_ptr": "*bf16", "dq_ptr": "*bf16", "stored_ptr": "*i32"}
        types["scale"] = "fp32"
        check(*compiled(kernel, types, sizes | constants, 4), 0)
