"""What the README shows, runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_python_example_runs(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


def test_named_files_exist() -> None:
    for path in set(re.findall(r"(?<![\w/])(?:configs|scripts|docs|checkpoints)/[\w/.-]+\w", README)):
        assert (ROOT / path).exists(), path


def test_every_public_choice_stands_in_the_readme() -> None:
    from splitlearn import codecs, losses, quantizers

    for room in (codecs, losses, quantizers):
        for name in set(room.__all__) - {"Codec", "Quantizer", "RateLoss", "CodecError", "pack", "unpack"}:
            assert name in README, name
