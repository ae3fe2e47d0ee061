"""layer_norm and rms_norm on a device at many widths, against float64 on the CPU."""

import pytest

import vibetensor as vt
import vibetensor.nn.functional as F

pytestmark = pytest.mark.gpu

WIDTHS = [1, 3, 8, 16, 24, 63, 64, 65, 255, 256, 264, 512, 768, 1000, 1024, 2048, 4096, 5000]
WIDTHS += [8184, 8192, 8200, 16384, 20001]
# Of the rows, of the parameters. What differs by more than half types with float parameters is rare.
DTYPES = [
    (vt.float32, vt.float32),
    (vt.float64, vt.float64),
    (vt.bfloat16, vt.bfloat16),
    (vt.float16, vt.float16),
    (vt.bfloat16, vt.float32),
    (vt.float16, vt.float32),
    (vt.float32, vt.bfloat16),
]


def close(found, exact, dtype):
    error = (found.cpu().double() - exact).abs() / (1 + exact.abs())
    return (
        error.max().item() <= (4 if dtype in (vt.float32, vt.float64) else 1) * vt.finfo(dtype).eps
    )


@pytest.mark.parametrize("rows_dtype, dtype", DTYPES)
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_widths(name, rows_dtype, dtype):
    vt.manual_seed(0)
    for width in WIDTHS:
        for rows in (1, 3, 700) if width <= 1024 else (1, 5):
            # Far from 0, where the mean of squares would lose the deviation.
            x = (vt.randn(rows, width, dtype=vt.float64) + 4).to(rows_dtype)
            weight = vt.randn(width, dtype=vt.float64).to(dtype)
            bias = vt.randn(width, dtype=vt.float64).to(dtype)
            own = (width,)
            sets = [(), (own, weight), (own, None, bias), (own, weight, bias)]
            for given in sets if name == "layer_norm" else sets[:2]:
                given = (own, *given[1:])
                parameters = [p if p is None else p.cuda() for p in given[1:]]
                wide = [p if p is None else p.double() for p in given[1:]]
                exact = getattr(F, name)(x.double(), own, *wide, eps=1e-5)
                found = getattr(F, name)(x.cuda(), own, *parameters, eps=1e-5)
                assert close(found, exact, rows_dtype), (width, rows, len(parameters))
                # Rows that lie apart, and rows at an odd place.
                spread = vt.zeros(rows, width + 5, dtype=rows_dtype, device="cuda")
                for begin in (0, 1):
                    part = spread[:, begin : begin + width]
                    part.copy_(x)
                    again = getattr(F, name)(part, own, *parameters, eps=1e-5)
                    assert close(again, exact, rows_dtype), (width, rows, begin)


def test_no_row_and_constant_rows():
    for width in (24, 64, 65, 768, 4096):
        assert F.layer_norm(vt.zeros(0, width, device="cuda"), (width,)).shape == (0, width)
        x = vt.full((3, width), 1e4, device="cuda")
        assert F.layer_norm(x, (width,)).abs().max().item() == 0
        x[1, 0] = float("nan")
        nans = F.layer_norm(x, (width,)).isnan().any(1).tolist()
        assert nans == [False, True, False]
