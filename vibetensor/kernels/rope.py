"""Rotary position embedding (Su et al., arXiv 2104.09864): pairs of features turned by an angle
that grows with the position. Memory is read once and written once; launched by
cuda/kernels/rotary.cpp."""

import triton
import triton.language as tl


@triton.jit
def rope_kernel(
    x,  # (batch, time, heads, features), as out
    out,
    cosine,  # (time, pairs), as sine
    sine,
    time,
    heads,
    features,
    x_batch,
    x_time,
    x_head,
    x_feature,
    out_batch,
    out_time,
    out_head,
    out_feature,
    cos_time,
    sin_time,
    sign,  # of the angle
    PAIRS: tl.constexpr,
    BLOCK_TIME: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,
    BLOCK_PAIRS: tl.constexpr,  # the power of two from PAIRS on
    BLOCK_REST: tl.constexpr,  # the same of the features that are copied, 0: there are none
    INTERLEAVED: tl.constexpr,  # pairs are neighbours; else half of the turned features apart
    UNIT: tl.constexpr,  # the features of x and out are neighbours
):
    time_blocks = tl.cdiv(time, BLOCK_TIME)
    batch = (tl.program_id(0) // time_blocks).to(tl.int64)
    t = (tl.program_id(0) % time_blocks) * BLOCK_TIME + tl.arange(0, BLOCK_TIME)
    h = tl.program_id(1) * BLOCK_HEADS + tl.arange(0, BLOCK_HEADS)
    t, h = t[:, None, None].to(tl.int64), h[None, :, None].to(tl.int64)
    rows = (t < time) & (h < heads)
    x += batch * x_batch + t * x_time + h * x_head
    out += batch * out_batch + t * out_time + h * out_head
    x_step = 1 if UNIT else x_feature
    out_step = 1 if UNIT else out_feature
    wide = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32

    pair = tl.arange(0, BLOCK_PAIRS)[None, None, :]
    angles = t < time
    if PAIRS < BLOCK_PAIRS:
        angles &= pair < PAIRS
    c = tl.load(cosine + t * cos_time + pair, mask=angles, other=0).to(wide)
    s = tl.load(sine + t * sin_time + pair, mask=angles, other=0).to(wide) * sign
    if INTERLEAVED:
        i = tl.arange(0, 2 * BLOCK_PAIRS)[None, None, :]
        mask = rows & (i < 2 * PAIRS) if PAIRS < BLOCK_PAIRS else rows
        both = tl.load(x + i * x_step, mask=mask, other=0).to(wide)
        a, b = tl.split(tl.reshape(both, BLOCK_TIME, BLOCK_HEADS, BLOCK_PAIRS, 2))
        turned = tl.join(a * c - b * s, b * c + a * s)
        turned = tl.reshape(turned, BLOCK_TIME, BLOCK_HEADS, 2 * BLOCK_PAIRS)
        tl.store(out + i * out_step, turned.to(out.dtype.element_ty), mask=mask)
    else:
        mask = rows & (pair < PAIRS) if PAIRS < BLOCK_PAIRS else rows
        a = tl.load(x + pair * x_step, mask=mask, other=0).to(wide)
        b = tl.load(x + (pair + PAIRS) * x_step, mask=mask, other=0).to(wide)
        tl.store(out + pair * out_step, (a * c - b * s).to(out.dtype.element_ty), mask=mask)
        tl.store(
            out + (pair + PAIRS) * out_step, (b * c + a * s).to(out.dtype.element_ty), mask=mask
        )
    if BLOCK_REST > 0:
        i = 2 * PAIRS + tl.arange(0, BLOCK_REST)[None, None, :]
        mask = rows & (i < features)
        tl.store(out + i * out_step, tl.load(x + i * x_step, mask=mask), mask=mask)
