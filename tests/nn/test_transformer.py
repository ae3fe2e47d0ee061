"""Multi-head attention and the encoder of a Transformer, against PyTorch with the same state."""

import pytest
import torch

import vibetensor as vt
from vibetensor import nn

TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}


def ours(t):
    return None if t is None else vt.from_numpy(t.detach().numpy().copy())


def theirs(t):
    return torch.from_numpy(t.detach().numpy().copy())


def close(mine, expected, **tolerance):
    torch.testing.assert_close(theirs(mine), expected.detach(), **(tolerance or TOLERANCE))


def same_state(mine, peer):
    """Ours with PyTorch's values; the names are the same, in the same order."""
    state = peer.state_dict()
    assert list(mine.state_dict()) == list(state)
    mine.load_state_dict({name: ours(t) for name, t in state.items()})
    return mine, peer


def check_gradients(mine, peer):
    peers = dict(peer.named_parameters())
    for name, p in mine.named_parameters():
        close(p.grad, peers[name].grad)


CONSTRUCTORS = [
    {},
    {"bias": False},
    {"batch_first": True},
    {"kdim": 6, "vdim": 10},
    {"add_bias_kv": True},
    {"add_zero_attn": True},
    {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True},
]
MASKS = ["none", "bool", "float", "3D", "padding", "float padding", "both", "mixed"]
B, T, S, E, H = 3, 5, 7, 8, 2


def masks(kind):
    keywords = {}
    if kind in ("bool", "both", "mixed"):
        keywords["attn_mask"] = torch.ones(T, S).triu(1).bool()
    if kind == "float":
        keywords["attn_mask"] = torch.randn(T, S, dtype=torch.float64)
    if kind == "3D":
        keywords["attn_mask"] = torch.randn(B * H, T, S, dtype=torch.float64)
    if kind in ("padding", "both"):
        keywords["key_padding_mask"] = torch.arange(S).repeat(B, 1) >= torch.tensor([[7], [5], [2]])
    if kind in ("float padding", "mixed"):
        keywords["key_padding_mask"] = torch.randn(B, S, dtype=torch.float64)
    return keywords


@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize("constructor", CONSTRUCTORS, ids=str)
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("need_weights", [False, True])
def test_multihead_attention(constructor, kind, need_weights):
    torch.manual_seed(0)
    mine, peer = same_state(
        nn.MultiheadAttention(E, H, dtype=vt.float64, **constructor),
        torch.nn.MultiheadAttention(E, H, dtype=torch.float64, **constructor),
    )
    sizes = [(T, B, E), (S, B, constructor.get("kdim", E)), (S, B, constructor.get("vdim", E))]
    inputs = [torch.randn(size, dtype=torch.float64) for size in sizes]
    if constructor.get("batch_first"):
        inputs = [t.transpose(0, 1).contiguous() for t in inputs]
    keywords = masks(kind)
    expected, expected_weights = peer(*inputs, need_weights=need_weights, **keywords)
    out, weights = mine(
        *map(ours, inputs),
        need_weights=need_weights,
        **{name: ours(t) for name, t in keywords.items()},
    )
    close(out, expected)
    assert (weights is None) == (expected_weights is None)
    if need_weights:
        close(weights, expected_weights)
    grad = torch.randn_like(expected)
    expected.backward(grad)
    out.backward(ours(grad))
    check_gradients(mine, peer)


def test_weights_of_each_head_and_no_batch():
    torch.manual_seed(0)
    mine, peer = same_state(
        nn.MultiheadAttention(E, H, dtype=vt.float64),
        torch.nn.MultiheadAttention(E, H, dtype=torch.float64),
    )
    x = torch.randn(T, E, dtype=torch.float64)
    results = mine(ours(x), ours(x), ours(x), average_attn_weights=False)
    for a, b in zip(results, peer(x, x, x, average_attn_weights=False), strict=True):
        close(a, b)


def test_dropout_acts_in_training_only():
    module = nn.MultiheadAttention(E, H, dropout=0.5)
    x = vt.randn(T, B, E)
    assert not (module(x, x, x)[0] == module(x, x, x)[0]).all()
    module.eval()
    assert (module(x, x, x)[0] == module(x, x, x)[0]).all()


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("masked", [False, True])
def test_encoder(norm_first, batch_first, activation, masked):
    torch.manual_seed(0)
    options = {
        "dim_feedforward": 16, "dropout": 0.0, "activation": activation,
        "norm_first": norm_first, "batch_first": batch_first,
    }  # fmt: skip
    peer = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(E, H, dtype=torch.float64, **options),
        2,
        torch.nn.LayerNorm(E, dtype=torch.float64),
        enable_nested_tensor=False,
    )
    layer = nn.TransformerEncoderLayer(E, H, dtype=vt.float64, **options)
    mine, peer = same_state(
        nn.TransformerEncoder(layer, 2, nn.LayerNorm(E, dtype=vt.float64)), peer
    )
    x = torch.randn(*((B, T) if batch_first else (T, B)), E, dtype=torch.float64)
    mask = torch.ones(T, T).triu(1).bool() if masked else None
    padding = torch.arange(T).repeat(B, 1) >= torch.tensor([[5], [4], [2]]) if masked else None
    expected = peer(x, mask, padding)
    out = mine(ours(x), ours(mask), ours(padding))
    close(out, expected)
    causal = None
    if masked:
        causal = mine(ours(x), ours(mask), is_causal=True)
        close(causal, peer(x, mask))
    grad = torch.randn_like(expected)
    expected.backward(grad)
    out.backward(ours(grad))
    check_gradients(mine, peer)


def test_copies_of_a_layer_are_separate():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(E, H, 16), 2)
    assert encoder.layers[0].linear1.weight is not encoder.layers[1].linear1.weight
    assert len(list(encoder.parameters())) == 24


def test_initial_values_are_drawn_as_in_pytorch():
    vt.manual_seed(0)
    torch.manual_seed(0)
    mine = nn.MultiheadAttention(256, 4, add_bias_kv=True)
    peer = torch.nn.MultiheadAttention(256, 4, add_bias_kv=True)
    for (name, a), (_, b) in zip(mine.named_parameters(), peer.named_parameters(), strict=True):
        assert tuple(a.shape) == tuple(b.shape), name
        spread = b.std().item()
        assert abs(a.std().item() - spread) <= 0.3 * spread, name


x = vt.zeros(T, B, E)
WRONG = {
    "sizes": (lambda: nn.MultiheadAttention(0, 2), ValueError),
    "division": (lambda: nn.MultiheadAttention(8, 3), AssertionError),
    "features": (lambda: nn.MultiheadAttention(4, 2)(x, x, x), AssertionError),
    "4D": (lambda: nn.MultiheadAttention(E, H)(x[None], x, x), AssertionError),
    "mask": (lambda: nn.MultiheadAttention(E, H)(x, x, x, attn_mask=x[0]), RuntimeError),
    "integers": (
        lambda: nn.MultiheadAttention(E, H)(x, x, x, attn_mask=vt.zeros(T, T, dtype=vt.int64)),
        AssertionError,
    ),
    "hint": (lambda: nn.MultiheadAttention(E, H)(x, x, x, is_causal=True), RuntimeError),
    "activation": (lambda: nn.TransformerEncoderLayer(E, H, activation="tanh"), RuntimeError),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input(name):
    function, error = WRONG[name]
    with pytest.raises(error):
        function()
