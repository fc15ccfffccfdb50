"""The site tells of every public name and command, and its links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import splitlearn
from scripts import docs
from scripts.documentation.commands import command_names
from scripts.documentation.commands import page as command_page
from scripts.documentation.configs import config_files, write_configs
from scripts.documentation.docstrings import markdown
from scripts.documentation.links import broken_in_markdown, broken_in_site
from scripts.documentation.messages import BLANK, all_texts, messages
from scripts.documentation.reference import ROOMS, page, public_names
from splitlearn.commands.command_line import COMMANDS
from splitlearn.config.precheck import TRAINER_COMMANDS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
WRITTEN = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "configs/README.md",
    *(path for path in sorted(DOCS.rglob("*.md")) if path.relative_to(DOCS).parts[0] not in ("api", "commands")),
]
TUTORIALS = sorted(path for path in (DOCS / "tutorials").glob("*.md") if path.name != "index.md")
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
SHELL = re.compile(r"^!(?:.*\\\n)*.*$", re.MULTILINE)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_all_public_packages_are_in_the_reference() -> None:
    package = Path(splitlearn.__file__).parent
    public = {path.parent.name for path in package.glob("*/__init__.py") if "\n__all__ = " in path.read_text()}
    assert set(ROOMS) == public - {"commands"}
    index = (DOCS / "reference/index.md").read_text()
    assert all(f"](../api/{room}.md)" in index and f"\n{room} <../api/{room}>\n" in index for room in ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_the_reference_has_every_public_name_once(room: str) -> None:
    text = page(room)
    told = re.findall(r"^`{5,6}\{py:(?:class|exception|function|data)\} (\w+)", text, re.MULTILINE)
    assert sorted(told) == sorted(importlib.import_module(f"splitlearn.{room}").__all__)
    assert told == public_names(room)
    for each in told:
        assert f"`{each} <splitlearn.{room}.{each}>` | " in text


def test_docstrings_become_fields() -> None:
    docstring = """Return something.

        More of it::

            1  byte

        Args:
            one: the first, which
                takes two lines.
            *many: others.

        Returns:
            A `thing`.

        Raises:
            ValueError: if <one> is wrong.

        Reference: Somebody 2020.
        """
    assert markdown(docstring) == (
        "Return something.\n\nMore of it:\n\n    1  byte\n\n*Reference:* Somebody 2020.\n\n"
        ":param one: the first, which takes two lines.\n:param many: others.\n:returns: A `thing`.\n"
        ":raises ValueError: if \\<one> is wrong.\n"
    )


def test_every_command_has_a_page() -> None:
    assert command_names() == [*TRAINER_COMMANDS, *COMMANDS]
    text = command_page("codecs")
    assert text.startswith("# splitlearn codecs\n\nCompare all codecs on activations")
    assert "--activations ACTIVATIONS" in text


def test_every_config_is_shown(tmp_path: Path) -> None:
    write_configs(tmp_path / "configs.md")
    text = (tmp_path / "configs.md").read_text()
    assert [f"### {path}" for path in config_files()] == re.findall(r"^### .*$", text, re.MULTILINE)


def test_messages_in_troubleshooting_are_raised() -> None:
    """Every part between two blanks stands in the code."""
    texts = "\n".join(all_texts())
    rows = re.findall(r"^\| `([^`]+)` \|", (DOCS / "guides/troubleshooting.md").read_text(), re.MULTILINE)
    assert len(rows) > 80
    for row in rows:
        for part in map(str.strip, row.split(BLANK)):
            assert len(part) < 7 or part in texts, row


def test_the_list_of_messages_knows_those_with_blanks() -> None:
    found = {message.text for message in messages()}
    assert "the payload is damaged: its checksum is wrong" in found
    assert "no module … in …: did you mean …?" in found


@pytest.mark.parametrize("path", WRITTEN, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    assert broken_in_markdown(path, DOCS) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One *thing*\n\n```\n# Not a heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[good](other.md#one-thing) [made](api/any.md) [far](https://example.org)\n`[code](x.md)`\n"
        "[gone](gone.md) [bad](other.md#not-a-heading)\n\n```\n[shown](y.md)\n```\n"
    )
    assert broken_in_markdown(page, tmp_path) == [
        "page.md: gone.md leads to no file",
        "page.md: other.md#not-a-heading leads to no heading of other.md",
    ]


def test_a_broken_link_of_a_built_page_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="top"></h1><a href="b.html#x"></a><a href="#top"></a><a href="c.html"></a>'
    )
    (tmp_path / "b.html").write_text(
        '<a href="https://example.org"></a><script src="https://example.org/x.js"></script>'
    )
    assert broken_in_site(tmp_path) == [
        "a.html: b.html#x leads to no place of that page",
        "a.html: c.html leads to no file",
        "b.html: https://example.org/x.js is loaded from elsewhere",
    ]


@pytest.mark.parametrize("path", TUTORIALS, ids=name)
def test_tutorials_are_python_and_import_what_exists(path: Path) -> None:
    """Their build runs them; this tells at once if a name has moved."""
    text = path.read_text()
    assert text.startswith("---\nfile_format: mystnb\n")
    assert f"]({path.name})" in (DOCS / "tutorials/index.md").read_text()
    cells = [cell for cell in CELL.findall(text) if not cell.startswith("%%bash\n")]
    assert cells
    for cell in cells:
        tree = compile(
            SHELL.sub("", cell),
            path.name,
            "exec",
            ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("splitlearn"):
                module = importlib.import_module(node.module or "")
                for alias in node.names:
                    assert alias.name in module.__all__, f"{node.module} offers no {alias.name}"


def test_the_build_says_in_one_sentence_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts/docs"])
    monkeypatch.setattr(docs, "find_spec", lambda module: None if module == "furo" else True)
    assert docs.main() == 1
    remedy = "pip install 'splitlearn[docs,onnx,testing]', or scripts/environment docs,onnx,testing"
    assert capsys.readouterr().err == f"scripts/docs: furo is not installed here: {remedy}\n"
    monkeypatch.setattr(docs, "find_spec", lambda module: True)
    monkeypatch.setattr(docs, "ROOT", Path("/nowhere"))
    assert docs.main() == 1
    assert "tutorials need checkpoints/resnet8_digits.safetensors, which is not here" in capsys.readouterr().err


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """All tutorials run; the search knows words of the reference."""
    words = [sys.executable, str(ROOT / "scripts/docs"), "--out", str(tmp_path / "site")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout[-3000:]
    assert "contextrans" in (tmp_path / "site/searchindex.js").read_text()
