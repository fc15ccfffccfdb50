"""List of the messages that the code raises, for the page that they are looked up on."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
BLANK = "…"  # stands for what a message says of the case at hand
START = """# All messages

Every message that is written where it is raised, by package; `…` stands for what a message says of the case at hand.
[Troubleshooting](../guides/troubleshooting.md) tells more of the most frequent ones."""
SHORTEST = 12  # letters of a message that can be recognized


class Message(NamedTuple):
    """A message as it stands in the code, with `…` for what changes, and the room that raises it."""

    text: str
    error: str
    room: str


def messages() -> list[Message]:
    """Return all messages that are written where they are raised, by room and in alphabetical order."""
    found = set()
    for path in sorted((ROOT / "splitlearn").rglob("*.py")):
        room = path.relative_to(ROOT / "splitlearn").parts[0].removesuffix(".py")
        found |= {Message(text, error, room) for text, error in _raised(ast.parse(path.read_text()))}
    return sorted(found, key=lambda message: (message.room, message.text.lower()))


def all_texts() -> set[str]:
    """Return every text in the code, wherever it stands, with `…` for what changes."""
    found = set()
    for path in (ROOT / "splitlearn").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.expr):
                found |= set(_texts(node))
    return found


def write_messages(file: Path) -> None:
    """Write the page of all messages."""
    lines = [START]
    room = ""
    for message in messages():
        if message.room != room:
            room = message.room
            lines += ["", f"## {room}", "", "| message | raised as |", "|---|---|"]
        text = message.text.replace("|", "\\|").replace("<", "\\<").replace("*", "\\*").replace("_", "\\_")
        lines.append(f"| {text.replace('`', '')} | `{message.error}` |")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


def _raised(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield message and class of each error that a file raises with a text of its own."""
    for node in ast.walk(tree):
        call = node.exc if isinstance(node, ast.Raise) else None
        if not isinstance(call, ast.Call) or not call.args:
            continue
        error = ast.unparse(call.func).split(".")[-1]
        for text in _texts(call.args[0]):
            if len(text.replace(BLANK, "")) >= SHORTEST and error[0].isupper():
                yield text, error


def _texts(node: ast.AST) -> list[str]:
    """Return the texts that an expression may give; none if it is not written here."""
    if isinstance(node, ast.IfExp):
        return _texts(node.body) + _texts(node.orelse)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [left + right for left in _texts(node.left) or [BLANK] for right in _texts(node.right) or [BLANK]]
    if isinstance(node, ast.Constant):
        return [" ".join(node.value.split())] if isinstance(node.value, str) else []
    if not isinstance(node, ast.JoinedStr):
        return []
    parts = (part.value if isinstance(part, ast.Constant) else BLANK for part in node.values)
    return [" ".join("".join(map(str, parts)).split())]
