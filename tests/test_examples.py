"""The example: resuming is exact to the bit, and everything that a run promises is there."""

import json

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
