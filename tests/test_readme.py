"""What README and pages of docs show, runs, and what they name, exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GUIDES = sorted((ROOT / "docs/guides").glob("*.md"))
PAGES = [README, ROOT / "docs/get_started.md", *GUIDES, *sorted((ROOT / "docs/formats").glob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
MOST_WORDS = 800


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if PYTHON.search(page.read_text())], ids=name)
def test_python_examples_of_a_page_run_one_after_the_other(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for code in PYTHON.findall(page.read_text()):
        exec(compile(code, page.name, "exec"), names)
    if page.name == "get_started.md":
        assert (tmp_path / "exported/bottleneck.safetensors").is_file()


def test_pages_with_examples_are_found() -> None:
    shown = {page.name for page in PAGES if PYTHON.search(page.read_text())}
    assert {"README.md", "get_started.md", "extend.md", "deploy.md", "streams.md", "banks.md", "codes.md"} <= shown


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_named_files_exist(page: Path) -> None:
    for path in set(re.findall(r"(?<![\w/])(?:configs|scripts|docs|checkpoints)/[\w/.-]+\w", page.read_text())):
        assert (ROOT / path).exists(), path


def test_every_public_choice_stands_in_the_guides() -> None:
    from splitlearn import codecs, losses, quantizers

    told = "\n".join(page.read_text() for page in GUIDES)
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
            assert name in told, name


def test_the_readme_is_short_and_begins_with_what_it_is() -> None:
    text = README.read_text()
    assert len(text.split()) <= MOST_WORDS
    assert "split computing" in " ".join(text.split("\n\n")[1].split())
    assert text.index("caltech-101.png") < text.index("## ")
