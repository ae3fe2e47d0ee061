"""layer_norm and rms_norm on a device at many widths, against float64 on the CPU."""

import pytest

import vibetensor as vt
import vibetensor.nn.functional as F

pytestmark = pytest.mark.gpu

WIDTHS = [1, 3, 8, 16, 24, 63, 64, 65, 255, 256, 264, 512, 768, 1000, 1024, 2048, 4096, 5000]
WIDTHS += [8184, 8192, 8200, 16384, 16392, 20001]
DTYPES = [vt.float32, vt.float64, vt.bfloat16, vt.float16]


def tolerance(x, weight, exact, dtype):
    """Of the output's rounding, and of that of the mean, which is divided by the deviation."""
    x = x.double()
    deviation = (x - x.mean(1, keepdim=True)).square().mean(1, keepdim=True).sqrt()
    spread = x.abs().amax(1, keepdim=True) / (deviation + 1e-3)
    factor = 1.0 if weight is None else weight.double().abs()
    compute = vt.finfo(vt.float64 if dtype is vt.float64 else vt.float32).eps
    return vt.finfo(dtype).eps * (1 + exact.abs()) + 8 * compute * (1 + spread * factor)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_widths(name, dtype):
    vt.manual_seed(0)
    function = getattr(F, name)
    for width in WIDTHS:
        weight = vt.randn(width, dtype=vt.float64).to(dtype)
        bias = vt.randn(width, dtype=vt.float64).to(dtype)
        sets = [(), (weight,)]
        if name == "layer_norm":
            sets += [(None, bias), (weight, bias)]
        for rows in (1, 3, 700) if width <= 1024 else (1, 5):
            # Far from 0, where the mean of squares would lose the deviation.
            x = (vt.randn(rows, width, dtype=vt.float64) + 4).to(dtype)
            # Rows that lie apart, from an even place and from an odd one.
            spread = vt.zeros(rows, width + 8, dtype=dtype, device="cuda")
            places = [x.cuda(), spread[:, :width], spread[:, 1 : 1 + width]]
            for given in sets:
                wide = [p if p is None else p.double() for p in given]
                exact = function(x.double(), (width,), *wide, eps=1e-5)
                limit = tolerance(x, given[0] if given else None, exact, dtype)
                there = [p if p is None else p.cuda() for p in given]
                for place in places:
                    place.copy_(x)
                    found = function(place, (width,), *there, eps=1e-5).cpu().double()
                    where = (width, rows, len(given), place.stride(), place.storage_offset())
                    assert bool(((found - exact).abs() <= limit).all()), where


def test_no_row_and_constant_rows():
    for width in (24, 64, 65, 768, 4096):
        assert F.layer_norm(vt.zeros(0, width, device="cuda"), (width,)).shape == (0, width)
        x = vt.full((3, width), 1e4, device="cuda")
        assert F.layer_norm(x, (width,)).abs().max().item() == 0
        x[1, 0] = float("nan")
        nans = F.layer_norm(x, (width,)).isnan().any(1).tolist()
        assert nans == [False, True, False]
