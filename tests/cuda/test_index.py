"""What walks through an index launch, on the simulated driver."""

import pytest

import vibetensor as vt
import vibetensor.nn.functional as F


@pytest.fixture
def launch(driver):
    """Calls a function and returns the name of the one kernel that it launches."""

    def name(call):
        (found,) = driver.launches(call)
        return found

    return name


@pytest.mark.parametrize(
    ("dtype", "move", "add"),
    [
        (vt.uint8, "runs_1", "u8"),
        (vt.bfloat16, "runs_2", "runs_bf16"),
        (vt.float32, "runs_4", "runs_f32"),
        (vt.float64, "8", "f64"),
    ],
)
def test_runs(launch, dtype, move, add):
    x = vt.zeros(16, 64, dtype=dtype, device="cuda")
    index = vt.zeros(16, 64, dtype=vt.int64, device="cuda")
    out = vt.empty_like(x)
    for dim in (0, 1):
        assert launch(lambda d=dim: x.gather(d, index)) == f"vt_index_fetch_{move}"
        assert launch(lambda d=dim: out.scatter_(d, index, x)) == f"vt_index_store_{move}"
        assert launch(lambda d=dim: out.scatter_add_(d, index, x)) == f"vt_index_add_{add}"


def test_single_elements_where_runs_would_not_be_whole_or_aligned(launch):
    x = vt.zeros(16, 65, device="cuda")
    index = vt.zeros(16, 65, dtype=vt.int64, device="cuda")
    for i in (index, index[:, 1:], index[:, :64], index[:, ::2]):
        assert launch(lambda i=i: x.gather(1, i)) == "vt_index_fetch_4"
    short = vt.zeros(64, dtype=vt.int32, device="cuda")
    assert launch(lambda: x.index_select(1, short)) == "vt_index_fetch_4"


def test_rows_move_as_wide_elements(launch):
    table = vt.zeros(50, 768, dtype=vt.bfloat16, device="cuda")
    tokens = vt.zeros(64, dtype=vt.int64, device="cuda")
    assert launch(lambda: F.embedding(tokens, table)) == "vt_index_fetch_16"
