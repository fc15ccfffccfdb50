"""One HTML page with its style and pictures inside: it needs no network and fits a phone."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from splitlearn.files import whole_file

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 64rem; padding: 1rem;
  color: #1b1f24; background: #fff; }
h1, h2, h3 { line-height: 1.2; } h2 { border-bottom: 1px solid #d0d7de; padding-bottom: .3rem; margin-top: 2.5rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { border-bottom: 1px solid #d0d7de; padding: .3rem .6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; height: auto; } .plot { width: 40rem; }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(45%, 12rem), 1fr)); gap: .6rem;
  margin: 0 0 1.5rem; }
figure { margin: 0; font-size: .85rem; overflow-wrap: anywhere; } figure img { width: 100%; border-radius: 4px; }
pre { overflow-x: auto; background: #f6f8fa; padding: .6rem; font-size: .8rem; } .note { color: #57606a; }
"""


def write_page(path: Path, title: str, parts: Iterable[str]) -> None:
    """Write a page; it appears complete or not at all.

    Args:
        path: path of the file.
        title: its title, as plain text.
        parts: HTML of its parts, from the functions of this module.
    """
    body = "\n".join(parts)
    with whole_file(path) as temporary:
        temporary.write_text(
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{STYLE}</style>\n</head>\n'
            f"<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n",
            encoding="utf-8",
        )


def heading(text: str, level: int = 2) -> str:
    """Return a heading from plain text."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str) -> str:
    """Return a paragraph from plain text."""
    return f'<p class="note">{escape(text)}</p>'


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table from plain text, which scrolls by itself where it is wider than the screen."""
    head = "".join(f"<th>{escape(each)}</th>" for each in headings)
    body = "\n".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def image(content: bytes, kind: str, text: str, style: str = "") -> str:
    """Return an image inside the page.

    Args:
        content: the image file.
        kind: its format, such as png.
        text: description for those who do not see it.
        style: class of the style.
    """
    data = base64.b64encode(content).decode()
    return f'<img class="{style}" alt="{escape(text)}" src="data:image/{kind};base64,{data}">'


def folded(summary: str, texts: Iterable[str]) -> str:
    """Return preformatted plain texts that unfold on a click."""
    inside = "".join(f"<pre>{escape(text)}</pre>" for text in texts)
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>"


def row_of_figures(figures: Iterable[tuple[bytes, str, str]]) -> str:
    """Return WebP pictures beside each other, as many as fit a line, each with a caption and a second line below."""
    shown = (
        f"<figure>{image(content, 'webp', f'{caption} ({second})')}"
        f"<figcaption><strong>{escape(caption)}</strong><br>{escape(second)}</figcaption></figure>"
        for content, caption, second in figures
    )
    return f'<div class="row">{"".join(shown)}</div>'
