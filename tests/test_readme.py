"""What the README shows, runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_python_examples_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "readme"}
    for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(code, "README.md", "exec"), names)
    assert (tmp_path / "exported/bottleneck.safetensors").is_file()


def test_named_files_exist() -> None:
    for path in set(re.findall(r"(?<![\w/])(?:configs|scripts|docs|checkpoints)/[\w/.-]+\w", README)):
        assert (ROOT / path).exists(), path


def test_every_public_choice_stands_in_the_readme() -> None:
    from splitlearn import codecs, losses, quantizers

    for room in (codecs, losses, quantizers):
        for name in set(room.__all__) - {
            "Codec",
            "ImageCodec",
            "Quantizer",
            "RateLoss",
            "CodecError",
            "pack",
            "unpack",
        }:
            assert name in README, name
