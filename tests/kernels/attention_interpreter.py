"""The plain attention kernels in Triton's interpreter, every feature, against the definition. Run by
test_attention.py in a process of its own, with TRITON_INTERPRET=1."""

import torch
from attention_launch import UNBOUNDED, Attention, dropout_factors, reference

SIZES = [  # batch, heads, heads of keys, queries, keys, features, features of values
    (1, 2, 1, 40, 70, 20, 16),
    (2, 1, 1, 70, 33, 16, 32),
]
FEATURES = {
    "plain": {},
    "causal": {"high": -30},
    "window": {"low": -9, "high": 4},
    "causal at the ends": {"high": 0},
    "alibi": {"slopes": True},
    "added": {"bias": "added"},
    "bool": {"bias": "bool"},
    "dropout": {"dropout_p": 0.3},
    "all": {"low": -40, "high": 20, "slopes": True, "bias": "added", "dropout_p": 0.4},
}


def close(name, mine, expected, tolerance=2e-5):
    torch.testing.assert_close(
        mine, expected.float(), rtol=tolerance, atol=tolerance, msg=lambda m: f"{name}: {m}"
    )


def dense(name, size, whole):
    batch, heads, kv_heads, queries, keys, dim, value_dim = size
    options = dict(FEATURES[name])
    shapes = (heads, queries, dim), (kv_heads, keys, dim), (kv_heads, keys, value_dim)
    # (batch, time, heads, features) in memory.
    tensors = [torch.randn(batch, t, h, d).transpose(1, 2) for h, t, d in shapes]
    kind = options.pop("bias", None)
    bias = None
    if kind == "added":
        bias = torch.randn(1, heads, queries, keys)
    elif kind == "bool":
        bias = torch.rand(batch, 1, 1, keys) < 0.6
    slopes = torch.rand(1, heads) if options.pop("slopes", None) else None
    p = options.get("dropout_p", 0.0)
    factors = dropout_factors(batch, heads, queries, keys, p, 5 << 33 | 7, 1 << 40) if p else None
    leaves = [t.double().requires_grad_() for t in tensors]
    leaf_bias = bias if bias is None or kind == "bool" else bias.double().requires_grad_()
    window = {n: options[n] for n in ("low", "high") if n in options}
    expected, expected_lse = reference(*leaves, leaf_bias, slopes, factors=factors, **window)
    grad = torch.randn(batch, queries, heads, value_dim).transpose(1, 2)
    expected.backward(grad.double())

    mine = Attention(
        *tensors, bias=bias, slopes=slopes, seed=5 << 33 | 7, offset=1 << 40, **options
    )
    out, lse = mine.forward(whole)
    close(f"{name} {size} out", out, expected)
    close(f"{name} {size} lse", lse, expected_lse)
    found = (mine.backward_short if whole else mine.backward)(grad)
    for letter, a, b in zip("qkv", found, leaves, strict=True):
        close(f"{name} {size} grad_{letter}", a, b.grad)
    if kind == "added" and not whole:
        close(f"{name} {size} grad_bias", mine.backward_bias(grad), leaf_bias.grad)


def packed(whole):
    lengths = [(3, 5), (0, 4), (66, 70), (1, 0), (9, 30)]
    ends = [torch.tensor([0, *n]).cumsum(0).int() for n in zip(*lengths, strict=True)]
    heads, kv_heads, dim = 2, 1, 16
    tensors = [torch.randn(1, int(e[-1]), h, dim).transpose(1, 2)
               for e, h in ((ends[0], heads), (ends[1], kv_heads), (ends[1], kv_heads))]  # fmt: skip
    leaves = [t.double().requires_grad_() for t in tensors]
    grad = torch.randn(1, int(ends[0][-1]), heads, dim).transpose(1, 2)
    parts = []
    for n, (a, b, c, d) in enumerate(zip(ends[0], ends[0][1:], ends[1], ends[1][1:], strict=False)):
        if a == b or c == d:
            parts.append(leaves[0][:, :, a:b] * 0)
            continue
        factors = dropout_factors(1, heads, b - a, d - c, 0.3, 11, n * heads)
        q, k, v = leaves[0][:, :, a:b], leaves[1][:, :, c:d], leaves[2][:, :, c:d]
        parts.append(reference(q, k, v, high=0, factors=factors)[0])
    expected = torch.cat(parts, 2)
    expected.backward(grad.double())
    mine = Attention(*tensors, high=0, dropout_p=0.3, seed=11, cu=ends, lengths=(66, 70))
    out, _ = mine.forward(whole)
    close("packed out", out, expected)
    found = (mine.backward_short if whole else mine.backward)(grad)
    for letter, a, b in zip("qkv", found, leaves, strict=True):
        close(f"packed grad_{letter}", a, b.grad)


if __name__ == "__main__":
    torch.manual_seed(0)
    assert UNBOUNDED == 1 << 30
    for whole in (False, True):
        for name in FEATURES:
            dense(name, SIZES[whole], whole)
        packed(whole)
    print("ok")
