"""Pages of the reference, made of `__all__` of each public package: signatures and docstrings, not written by hand."""

from __future__ import annotations

import enum
import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from scripts.documentation.docstrings import markdown, summary

PACKAGE = "splitlearn"
ROOMS = (
    *("codecs", "numpy_quantizers", "quantizers", "losses", "metrics", "data", "models", "tasks"),
    *("analysis", "sweep", "deploy", "reporting", "runtime", "testing"),
)
"""Packages whose `__all__` is public."""


class Told:
    """Text that a signature shows as it stands."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def public_names(room: str) -> list[str]:
    """Return the public names of a package, in alphabetical order."""
    return sorted(importlib.import_module(f"{PACKAGE}.{room}").__all__, key=str.lower)


def write_reference(folder: Path) -> None:
    """Write one page for each package into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for room in ROOMS:
        (folder / f"{room}.md").write_text(page(room))


def page(room: str) -> str:
    """Return the page of a package: what it is for, a table of its names, and each with signature and docstring."""
    module = importlib.import_module(f"{PACKAGE}.{room}")
    names = public_names(room)
    rows = [f"| {{py:obj}}`{name} <{module.__name__}.{name}>` | {summary_of(module, name)} |" for name in names]
    entries = [entry(module, name) for name in names]
    title = f"# {module.__name__}\n\n{markdown(module.__doc__ or '')}"
    table = "\n".join(["| name | |", "|---|---|", *rows])
    return "\n\n".join([title, f"```{{py:module}} {module.__name__}\n```", table, *entries]) + "\n"


def home(module: ModuleType, name: str) -> str | None:
    """Return the public package of which another one offers a name too; None if the name is this package's own."""
    rooms = getattr(getattr(module, name), "__module__", module.__name__).split(".")[1:2]
    other = next((room for room in ROOMS if rooms == [room]), None)
    if other is None or module.__name__ == f"{PACKAGE}.{other}":
        return None
    full = f"{PACKAGE}.{other}"
    return full if name in importlib.import_module(full).__all__ else None


def summary_of(module: ModuleType, name: str) -> str:
    """Return the first paragraph of what explains a name."""
    value = plain(getattr(module, name))
    told = summary(value.__doc__) if is_documented(value) else f"`{short(value)}`"
    return told.replace("|", "\\|")


def entry(module: ModuleType, name: str) -> str:
    """Return the directive of one public name."""
    value = plain(getattr(module, name))
    if (full := home(module, name)) is not None:
        return fenced(kind_of(value), name, f"The same as {{py:obj}}`{full}.{name}`.")
    if not is_documented(value):
        return fenced("data", name, f"Equal to `{short(value)}`.")
    if inspect.isfunction(value):
        return fenced("function", name + signature(value), markdown(value.__doc__ or ""))
    head = name if shows_no_arguments(value) else name + signature(value)
    return fenced(kind_of(value), head, class_body(value), fence="``````")


def class_body(value: type) -> str:
    """Return the docstring of a class, with its own public methods and properties below."""
    parts = [markdown(value.__doc__ or "")]
    bases = [base.__name__ for base in value.__bases__ if base.__module__.startswith(PACKAGE)]
    if bases:
        parts.append("Derived from " + ", ".join(f"`{base}`" for base in bases) + ".")
    for name, member in vars(value).items():
        told = member_entry(name, member)
        if told:
            parts.append(told)
    return "\n\n".join(parts)


def member_entry(name: str, member: Any) -> str:
    """Return the directive of a public method or property with a docstring; otherwise nothing."""
    if name.startswith("_"):
        return ""
    options = ""
    if isinstance(member, (classmethod, staticmethod)):
        options = ":classmethod:\n" if isinstance(member, classmethod) else ":staticmethod:\n"
        member = member.__func__
    if isinstance(member, property) or hasattr(member, "func"):  # `cached_property` has one
        getter = member.fget if isinstance(member, property) else member.func
        return fenced("property", name, markdown(getter.__doc__), "`````") if getter and getter.__doc__ else ""
    if not inspect.isfunction(member) or not member.__doc__:
        return ""
    hidden = () if options == ":staticmethod:\n" else (next(iter(inspect.signature(member).parameters), ""),)
    return fenced("method", name + signature(member, hidden), markdown(member.__doc__), "`````", options)


def fenced(kind: str, head: str, body: str, fence: str = "`````", options: str = "") -> str:
    """Return a directive of Sphinx's domain of Python."""
    return f"{fence}{{py:{kind}}} {head}\n{options}\n{body}\n{fence}"


def plain(value: Any) -> Any:
    """Return the function behind a compiled one, any other value itself."""
    return getattr(value, "py_func", value)


def is_documented(value: Any) -> bool:
    """Return whether a value is a class or function, which a docstring explains."""
    return inspect.isclass(value) or inspect.isfunction(value)


def kind_of(value: Any) -> str:
    """Return the name of the directive of a value."""
    if inspect.isclass(value):
        return "exception" if issubclass(value, BaseException) else "class"
    return "function" if inspect.isfunction(value) else "data"


def shows_no_arguments(value: type) -> bool:
    """Return whether a class is not made by callers: an exception, an enumeration or a protocol."""
    return issubclass(value, (BaseException, enum.Enum)) or Protocol in value.__bases__


def signature(value: Any, hidden: tuple[str, ...] = ()) -> str:
    """Return the signature of a function or class as text; empty if Python does not tell it."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    parameters = [
        parameter.replace(annotation=_annotation(parameter.annotation), default=_default(parameter.default))
        for name, parameter in found.parameters.items()
        if name not in hidden
    ]
    returned = found.empty if inspect.isclass(value) else _annotation(found.return_annotation)
    return str(found.replace(parameters=parameters, return_annotation=returned))


def short(value: Any) -> str:
    """Return the representation of a value on one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else text[:99] + "…"


def _annotation(annotation: Any) -> Any:
    if annotation is inspect.Parameter.empty:
        return annotation
    return Told(annotation if isinstance(annotation, str) else inspect.formatannotation(annotation))


def _default(default: Any) -> Any:
    if default is inspect.Parameter.empty:
        return default
    if inspect.isclass(default) or inspect.isfunction(default):
        return Told(default.__name__)
    return Told("…" if " at 0x" in repr(default) or "<" in repr(default) else repr(default))
