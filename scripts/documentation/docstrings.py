"""Docstrings, written in Google's form, as Markdown of the site: sections become lists of fields."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

FIELDS = {"Args": "param", "Attributes": "ivar", "Raises": "raises"}  # their entries are "name: text"
SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields|References?):[ \t]*(.*)$")
ENTRY = re.compile(r"^(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*): (.*)$")
CODE = re.compile(r"(`+[^`]+`+)")


def markdown(docstring: str) -> str:
    """Return a docstring as Markdown for MyST, with its sections as fields: Args, Attributes, Returns, Raises."""
    text, sections = [], []
    for title, lines in _sections(inspect.cleandoc(docstring).splitlines()):
        body = "\n".join(lines).strip("\n")
        if not title:
            text.append(escaped(_code_blocks(body)))
        elif title in FIELDS:
            sections += [f":{FIELDS[title]} {name}: {escaped(told)}" for name, told in _entries(lines)]
        elif title == "Returns":
            sections.append(f":returns: {escaped(_one_line(body))}")
        else:
            text.append(f"*{title}:* {escaped(_one_line(body))}")
    return "\n\n".join([*text, "\n".join(sections)]).strip() + "\n"


def escaped(text: str) -> str:
    """Return text in which `<` outside of code begins no tag."""
    parts = CODE.split(text)
    return "".join(part if number % 2 else part.replace("<", "\\<") for number, part in enumerate(parts))


def summary(docstring: str | None) -> str:
    """Return the first paragraph of a docstring as one line."""
    return escaped(_one_line(inspect.cleandoc(docstring or "").split("\n\n")[0]))


def _sections(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield title and lines of each section; the title is empty for what stands before and between them."""
    title, body = "", list[str]()
    for line in lines:
        found = SECTION.match(line)
        if not found and (not title or not line or line.startswith(" ")):
            body.append(line)
            continue
        yield title, body
        title, body = (found[1], [found[2]]) if found else ("", [line])
    yield title, body


def _entries(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield name and text of the entries of a section, which are indented by four spaces."""
    name, told = "", list[str]()
    for line in lines:
        found = ENTRY.match(line[4:]) if line.startswith("    ") and not line.startswith("     ") else None
        if found:
            if name:
                yield name, _one_line("\n".join(told))
            name, told = found[1].replace("*", ""), [found[2]]
        else:
            told.append(line)
    if name:
        yield name, _one_line("\n".join(told))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _code_blocks(text: str) -> str:
    """Return text in which a paragraph that ends with `::` introduces a block of code, which stays indented."""
    return re.sub(r"::(\n\n +)", r":\1", text)
