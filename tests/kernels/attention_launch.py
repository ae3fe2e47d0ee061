"""Launches the plain attention kernels on PyTorch's tensors: what the host code of the operator does,
for the interpreter and for measurements; and the definition of what they compute."""

import math

import torch
import triton

from vibetensor.kernels.attention import plain_backward, plain_forward

UNBOUNDED = 1 << 30


def strides(t, n=3):
    return t.stride()[:n]


class Attention:
    """One problem: tensors, options, and the arguments that the kernels share."""

    def __init__(self, q, k, v, *, bias=None, slopes=None, low=-UNBOUNDED, high=UNBOUNDED, scale=None,
                 dropout_p=0.0, seed=0, offset=0, cu=None, lengths=None, precision="ieee",
                 tiles=None, split=True):  # fmt: skip
        self.q, self.k, self.v = q, k, v
        self.bias = bias
        self.batch, self.heads, self.queries, self.dim = q.shape
        self.kv_heads, self.keys, self.value_dim = k.shape[1], k.shape[2], v.shape[3]
        self.low, self.high = low, high
        self.cu = cu or (None, None)
        if cu is not None:
            self.batch = len(cu[0]) - 1
            self.queries, self.keys = lengths
        threshold = int((1 - dropout_p) * 65536 + 0.5)
        keep = 65536 / threshold if threshold else 0.0
        self.scalars = (
            self.heads, self.heads // self.kv_heads, self.queries, self.keys, self.dim, self.value_dim,
            low, high, scale or 1 / math.sqrt(self.dim), seed, offset, threshold, keep,
        )  # fmt: skip
        if bias is not None:
            self.bias_strides = [
                0 if n == 1 else s for n, s in zip(bias.shape, bias.stride(), strict=True)
            ]
        else:
            self.bias_strides = [0] * 4
        self.slopes = slopes
        self.slope_strides = (0, 0)
        if slopes is not None:
            self.slope_strides = (slopes.stride(0) if slopes.shape[0] > 1 else 0, slopes.stride(1))
        pad = [max(16, triton.next_power_of_2(n)) for n in (self.dim, self.value_dim)]
        self.flags = {
            "D": pad[0], "E": pad[1], "PAD": pad != [self.dim, self.value_dim], "LOW": low > -UNBOUNDED,
            "HIGH": high < UNBOUNDED, "BIAS": 0 if bias is None else 1 if bias.dtype == torch.bool else 2,
            "ALIBI": slopes is not None, "DROPOUT": dropout_p > 0, "PRECISION": precision,
        }  # fmt: skip
        self.packed = cu is not None
        self.split = split
        self.out = self.lse = None
        self.tiles = {"forward": (64, 64, 4, 2), "whole": (64, 128, 4, 1), "short": (64, 128, 8, 1),
                          "queries": (64, 64, 4, 2), "keys": (64, 64, 4, 2), "bias": (64, 64, 4, 1)}  # fmt: skip
        self.tiles |= tiles or {}

    def options(self, name, packed=True):
        m, n, warps, stages = self.tiles[name]
        o = dict(BLOCK_M=m, BLOCK_N=n, num_warps=warps, num_stages=stages, **self.flags)
        return o | {"PACKED": self.packed} if packed else o

    def batch_strides(self, t):
        s = strides(t)
        return (0, *s[1:]) if self.packed else s

    def like(self, t):
        n = t.shape
        return torch.zeros(n[0], n[2], n[1], n[3], dtype=t.dtype, device=t.device).transpose(1, 2)

    @property
    def rows(self):
        return self.q.shape[2]

    def forward(self, whole=False):
        q, k, v = self.q, self.k, self.v
        if self.out is None:
            out = torch.zeros(q.shape[0], self.rows, self.heads, self.value_dim, dtype=q.dtype,
                              device=q.device)  # fmt: skip
            self.out = out.transpose(1, 2)
            self.lse = torch.zeros(q.shape[0], self.heads, self.rows, device=q.device)
        out, lse = self.out, self.lse
        name = "whole" if whole else "forward"
        blocks = triton.cdiv(self.queries, self.tiles[name][0])
        plain_forward.attention_forward[(blocks * self.heads * self.batch,)](
            q, k, v, out, lse, self.bias, self.slopes, *self.cu, *self.batch_strides(q),
            *self.batch_strides(k), *self.batch_strides(v), *self.batch_strides(out),
            *self.batch_strides(lse)[:2], *self.bias_strides, *self.slope_strides, *self.scalars,
            blocks, WHOLE=whole, **self.options(name),
        )  # fmt: skip
        return out, lse

    def inputs(self, grad):
        s = self.batch_strides
        return *s(grad), *s(self.q), *s(self.k), *s(self.v)

    def common(self):
        return *self.batch_strides(self.lse)[:2], *self.bias_strides, *self.slope_strides

    def gradients(self):
        return self.like(self.q), self.like(self.k), self.like(self.v)

    def backward_short(self, grad):
        dq, dk, dv = self.gradients()
        s = self.batch_strides
        plain_backward.attention_backward_short[(self.batch * self.kv_heads,)](
            grad, self.q, self.k, self.v, self.out, self.lse, dq, dk, dv, self.bias, self.slopes,
            *self.cu, *self.inputs(grad), *s(self.out), *s(dq), *s(dk), *s(dv), *self.common(),
            *self.scalars, **self.options("short"),
        )  # fmt: skip
        return dq, dk, dv

    def backward(self, grad):
        dq, dk, dv = self.gradients()
        s = self.batch_strides
        delta = torch.zeros_like(self.lse)
        blocks = triton.cdiv(self.queries, self.tiles["queries"][0])
        plain_backward.attention_backward_queries[(blocks * self.heads * self.batch,)](
            grad, self.q, self.k, self.v, self.out, self.lse, dq, delta, self.bias, self.slopes,
            *self.cu, *self.inputs(grad), *s(self.out), *s(dq), *self.common(), *self.scalars, blocks,
            **self.options("queries"),
        )  # fmt: skip
        blocks = triton.cdiv(self.keys, self.tiles["keys"][1])
        plain_backward.attention_backward_keys[(blocks * self.kv_heads * self.batch,)](
            grad, self.q, self.k, self.v, self.lse, delta, dk, dv, self.bias, self.slopes, *self.cu,
            *self.inputs(grad), *s(dk), *s(dv), *self.common(), *self.scalars, blocks,
            SPLIT=self.split, **self.options("keys"),
        )  # fmt: skip
        return dq, dk, dv

    def backward_bias(self, grad):
        n = self.bias.shape
        dbias = torch.zeros(n[0], n[1], self.queries, self.keys, device=grad.device)
        m, width, _, _ = self.tiles["bias"]
        blocks, key_blocks = triton.cdiv(self.queries, m), triton.cdiv(self.keys, width)
        plain_backward.attention_backward_bias[(blocks * key_blocks * n[0] * n[1],)](
            grad, self.q, self.k, self.v, self.out, self.lse, dbias, self.bias, self.slopes,
            *self.inputs(grad), *self.batch_strides(self.out), *self.common(), *self.scalars,
            self.batch, n[0], n[1], blocks, key_blocks, **self.options("bias", False),
        )  # fmt: skip
        return dbias.sum_to_size(n)


# --- the definition --------------------------------------------------------------------------------------


def philox(seed, counter):
    """The block of a 128-bit counter, four words; slow and plain."""
    words = [counter >> 32 * n & 0xFFFFFFFF for n in range(4)]
    keys = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
    for _ in range(10):
        p, q = words[0] * 0xD2511F53, words[2] * 0xCD9E8D57
        words = [q >> 32 ^ words[1] ^ keys[0], q & 0xFFFFFFFF, p >> 32 ^ words[3] ^ keys[1],
                 p & 0xFFFFFFFF]  # fmt: skip
        keys = [(keys[0] + 0x9E3779B9) & 0xFFFFFFFF, (keys[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return words


def dropout_factors(batch, heads, queries, keys, p, seed, offset):
    """What dropout multiplies the weights by, from the text of vt/attention_dropout.h."""
    threshold = int((1 - p) * 65536 + 0.5)
    factors = torch.zeros(batch, heads, queries, keys)
    for b in range(batch):
        for h in range(heads):
            for i in range(queries):
                for group in range((keys + 63) // 64 * 8):
                    words = philox(seed, offset + b * heads + h | i << 64 | group << 96)
                    for piece in range(8):
                        j = group // 8 * 64 + 8 * piece + group % 8
                        if j < keys and words[piece // 2] >> 16 * (piece % 2) & 0xFFFF < threshold:
                            factors[b, h, i, j] = 65536 / threshold
    return factors


def reference(
    q, k, v, bias=None, slopes=None, low=-UNBOUNDED, high=UNBOUNDED, scale=None, factors=None
):
    """The result and the lse, in the dtype of the inputs, by PyTorch's operators."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    queries, keys = q.shape[2], k.shape[2]
    scores = q @ k.transpose(-1, -2) * (scale or 1 / math.sqrt(q.shape[3]))
    i, j = torch.arange(queries, device=q.device), torch.arange(keys, device=q.device)
    distance = (j - keys) - (i - queries)[:, None]
    if slopes is not None:
        scores = scores - slopes.to(q.dtype).reshape(-1, q.shape[1], 1, 1) * distance.abs()
    hidden = (distance < low) | (distance > high)
    if bias is not None and bias.dtype == torch.bool:
        hidden = hidden | ~bias
    elif bias is not None:
        scores = scores + bias
    scores = scores.masked_fill(hidden, -math.inf)
    top = scores.amax(-1, keepdim=True).detach()
    e = torch.exp(scores - torch.where(top == -math.inf, 0.0, top))
    total = e.sum(-1, keepdim=True)
    weights = e / torch.where(total == 0, 1.0, total)
    if factors is not None:
        weights = weights * factors
    return weights @ v, torch.logsumexp(scores, -1)
