"""The example: resuming is exact to the bit, and everything that a run promises is there."""

import json
import pickle

import numpy as np
import pytest

import vibetensor as vt

SIZES = [
    "--device", "cpu", "--steps", "6", "--batch", "2", "--context", "16", "--dim", "16", "--layers", "2",
    "--heads", "2", "--warmup", "2", "--validate-every", "3", "--checkpoint-every", "4",
    "--validation-batches", "1", "--sample", "40",
]  # fmt: skip


@pytest.fixture(scope="module")
def minigpt(example):
    pytest.importorskip("tqdm")
    pytest.importorskip("matplotlib")
    return example("minigpt")


@pytest.mark.parametrize(
    "options", ["--dropout 0.0", "--dropout 0.2", "--dtype bfloat16", "--dtype float16"]
)
def test_resume_is_exact(minigpt, tmp_path, options):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = [*SIZES, *options.split()]
    expected = minigpt.main([*arguments, "--out", str(whole)])
    minigpt.main([*arguments, "--out", str(parts), "--stop-at", "3", "--sample", "0"])
    vt.rand(10)  # whatever else the process draws
    actual = minigpt.main(["--resume", "--device", "cpu", "--out", str(parts), "--sample", "40"])
    assert actual["losses"] == expected["losses"]
    assert actual["validation"] == expected["validation"]
    assert actual["sample"] == expected["sample"]
    states = [vt.load(out / "checkpoint.safetensors") for out in (whole, parts)]
    for name, value in states[0]["model"].items():
        assert (value == states[1]["model"][name]).all()
    assert states[0]["schedule"] == states[1]["schedule"]


def test_outputs(minigpt, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 40)
    results = tmp_path / "results.json"
    minigpt.main(
        [
            *(*SIZES, "--text", str(text), "--out", str(tmp_path), "--json", str(results)),
            *("--seed", "3", "--dtype", "float64"),
        ]
    )
    read = json.loads(results.read_text())
    assert len(read["losses"]) == 6 and [step for step, _ in read["validation"]] == [3, 6]
    assert read["tokens_per_second"] > 0 and 0 <= read["known_words"] <= 1
    assert read["seed"] == 3 and read["dtype"] == "float64"
    assert len(read["sample"]) <= 40
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "validation loss" in printed and "occur in the training text" in printed


def test_words(minigpt):
    assert minigpt.words("An example: the Cat's 3 cats_x in it.") == [
        "example", "the", "cat", "cats",
    ]  # fmt: skip


def test_short_text_is_refused(minigpt):
    with pytest.raises(SystemExit, match="too few for a context"):
        minigpt.Text(b"short", 16)


@pytest.mark.parametrize("name", ["reversal", "vit"])
def test_other_examples(example, tmp_path, name):
    pytest.importorskip("tqdm")
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    module = example(name)
    sizes = ["--device", "cpu", "--steps", "6", "--batch", "4", "--dim", "16", "--layers", "2"]
    sizes += ["--heads", "2", "--warmup", "2", "--validate-every", "3", "--checkpoint-every", "4"]
    sizes += ["--validation-batches", "1"]
    expected = module.main([*sizes, "--out", str(tmp_path / "whole")])
    module.main([*sizes, "--out", str(tmp_path / "parts"), "--stop-at", "3"])
    actual = module.main(["--resume", "--device", "cpu", "--out", str(tmp_path / "parts")])
    assert actual["losses"] == expected["losses"]
    assert 0 <= actual["accuracy"] == expected["accuracy"] <= 1
    assert (tmp_path / "parts" / "loss.png").exists()


def write_cifar10(folder, images):
    """Files in the format of CIFAR-10 for Python, with so many images each. Returns pixels and labels."""
    rng = np.random.default_rng(0)
    pixels, labels = [], []
    folder.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        data = rng.integers(0, 256, (images, 3 * 32 * 32), dtype=np.uint8)
        classes = [int(c) for c in rng.integers(0, 10, images)]
        part = {
            b"batch_label": name.encode(),
            b"labels": classes,
            b"data": data,
            b"filenames": [f"{name}_{i}.png".encode() for i in range(images)],
        }
        (folder / name).write_bytes(pickle.dumps(part, protocol=2))
        pixels.append(data)
        labels += classes
    return np.concatenate(pixels), np.array(labels)


def test_vit_reads_cifar10(example, tmp_path):
    pytest.importorskip("tqdm")
    pytest.importorskip("matplotlib")
    vit = example("vit")
    pixels, labels = write_cifar10(tmp_path / "cifar", 8)
    data = vit.cifar10(str(tmp_path / "cifar"), "float64")
    # Rows of 1024 reds, greens and blues, each plane row by row.
    plain = pixels.reshape(48, 3, 32, 32).astype(np.float32)
    expected = (plain - plain[:40].mean()) / plain[:40].std()
    assert data.images.shape == (48, 3, 32, 32) and data.labels.tolist() == labels.tolist()
    np.testing.assert_array_equal(data.images, expected)
    assert [len(data.parts[part]) for part in (True, False)] == [40, 8]
    images, classes = data.batch(False, 4, 1)
    for image, c in zip(images, classes, strict=True):
        [at] = [i for i in range(40, 48) if (data.images[i] == image).all()]
        assert labels[at] == c

    out = tmp_path / "out"
    arguments = ["--cifar10", str(tmp_path / "cifar"), "--device", "cpu", "--out", str(out)]
    arguments += ["--steps", "3", "--batch", "4", "--dim", "16", "--layers", "1", "--heads", "2"]
    arguments += ["--warmup", "1", "--validate-every", "3", "--validation-batches", "1"]
    results = vit.main([*arguments, "--class-tokens", "2"])
    assert len(results["losses"]) == 3 and 0 <= results["accuracy"] <= 1
    assert results["accuracy"] * 8 == round(results["accuracy"] * 8)
