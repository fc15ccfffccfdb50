"""Checks of links: in Markdown files of the project, and in the pages that were built of them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

CODE = re.compile(r"^(`{3,})[^\n]*\n.*?^\1`*[ \t]*$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
TARGET = re.compile(r"^\(([\w-]+)\)=$", re.MULTILINE)
MADE = ("api/", "commands/")  # folders of docs/ that the build writes


def broken_in_markdown(path: Path, docs: Path) -> list[str]:
    """Return the links of a Markdown file that lead to no file or heading of the project, one sentence each.

    Args:
        path: the file.
        docs: folder of the site's sources; pages that its build makes count as present.
    """
    found = []
    for link in LINK.findall(CODE.sub("", path.read_text())):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if target.is_relative_to(docs) and str(target.relative_to(docs)).startswith(MADE):
            continue
        if not target.exists():
            found.append(f"{path.name}: {link} leads to no file")
        elif parts.fragment and target.suffix == ".md" and unquote(parts.fragment) not in anchors(target.read_text()):
            found.append(f"{path.name}: {link} leads to no heading of {target.name}")
    return found


def anchors(text: str) -> set[str]:
    """Return the names by which headings of a Markdown file can be linked to, as hosts of repositories make them."""
    text = CODE.sub(lambda code: code[0] if not code[0].startswith("```") else "", text)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text))
    return {word.replace(" ", "-") for word in words} | set(TARGET.findall(text))


class Page(HTMLParser):
    """Links, anchors and loaded files of one built page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what a tag links to, loads or names."""
        values = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := values.get(name))}
        if tag == "a" and (link := values.get("href")):
            self.links.append(link)
        if tag in ("img", "script") and (link := values.get("src")):
            self.loaded.append(link)
        if tag == "link" and values.get("rel") == "stylesheet" and (link := values.get("href")):
            self.loaded.append(link)


def broken_in_site(site: Path) -> list[str]:
    """Return what is wrong with the links of built pages, one sentence each.

    A link inside the site must lead to a file and, if it names one, to an anchor of it. Nothing is loaded from
    elsewhere, so that pages and search work without a network.
    """
    pages = {path.resolve(): Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                found += [f"{name}: {link} is loaded from elsewhere"] * (link in page.loaded and parts.scheme != "data")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                found.append(f"{name}: {link} leads to no file")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{name}: {link} leads to no place of that page")
    return found
