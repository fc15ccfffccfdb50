"""Error messages of one clear sentence.

The errors of jsonargparse are parsed from their text: for values of several possible types, it joins the errors of all
types as text and keeps no exceptions.
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

from splitlearn.discovery import MOVED, current_path
from splitlearn.resource_errors import origins, shortage


class UsageError(Exception):
    """An invalid command line or config; the message is shown unchanged."""


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return `, did you mean …?` with similar candidates, or nothing if there are none."""
    near = difflib.get_close_matches(word, sorted(set(candidates)), n=3, cutoff=0.6)
    return f", did you mean {' or '.join(near)}?" if near else ""


NO_MODULE = re.compile(r"No module named '([\w.]+)")
NOT_IN_MODULE = re.compile(r"cannot import name '(\w+)' from '(splitlearn[\w.]*)'")


def with_remedy_for_import(message: str, arguments: Iterable[str]) -> str:
    """Return an error message; after a failed import, with a hint if the module lies beside a config in `arguments`."""
    if name := NOT_IN_MODULE.search(message):
        before = f"{name[2]}.{name[1]}"
        now = current_path(before)
        return message if now == before else f"{message}; it is now {now}"
    if not (missing := NO_MODULE.search(message)):
        return message
    top, *rooms = missing[1].split(".")
    if top == "splitlearn" and rooms:
        room = f"{top}.{rooms[0]}"
        return f"{message}; import its contents from {MOVED.get(room, room)}"
    for folder in {Path(word.split("=")[-1]).parent for word in arguments if word.endswith((".yaml", ".yml"))}:
        if (folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file():
            return f"{message}; it lies in {folder}, not in the working directory: set PYTHONPATH={folder}"
    return message


NO_SUBTYPE = "Does not validate against any of the Union subtypes"  # jsonargparse's wrapper of an object's error


def one_sentence(error: BaseException) -> str:
    """Return an error's message on one line; errors that are not meant for users begin with their class."""
    text = " ".join(str(error).split())
    if shortage(error) == "disk" and not type(error).__module__.startswith("splitlearn."):
        names = (getattr(each, "filename", None) for each in origins(error))
        where = next(filter(None, names), "while writing")
        return f"the disk is full ({where}): free some space; what was saved before is intact"
    if text.startswith(NO_SUBTYPE) and error.__cause__ is not None:
        return one_sentence(error.__cause__)
    if text.startswith(ONE_VALUE):
        return (
            "a batch norm over single values cannot train on a batch of one image: choose a batch_size that leaves no "
            "single image for the last batch"
        )
    ours = type(error).__module__.startswith("splitlearn.")
    meant = ours or isinstance(error, (ValueError, OSError, ImportError))
    return text if text and meant else f"{type(error).__name__}: {text or 'no message'}"


def place_of(error: BaseException) -> str:
    """Return ` (FILE, line N)` of the user's code that raised an error, or nothing if there is none.

    User's code is outside of splitlearn and of the folders of Python and installed packages.
    """
    chain = list(origins(error))
    if any(isinstance(each, SyntaxError) for each in chain):
        return ""  # the message has file and line already
    for each in chain:
        own = [step for step in traceback.extract_tb(each.__traceback__) if _is_own(step.filename)]
        if own:
            return f" ({os.path.relpath(own[-1].filename)}, line {own[-1].lineno})"
    return ""


def _is_own(file: str) -> bool:
    paths = sysconfig.get_paths()
    installed = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    roots = (str(Path(__file__).parents[1]), *installed, *map(os.path.realpath, installed))
    inside = any(os.path.abspath(file).startswith(root + os.sep) for root in roots)
    return file.endswith(".py") and os.path.isfile(file) and not inside  # compiled modules name files that are not here


ONE_VALUE = "Expected more than 1 value per channel when training"
UNKNOWN_KEY = re.compile(
    r"(?:[Oo]ption|[Kk]ey) '([\w.]+)' is not (?:accepted|expected)"
    r"|[Uu]nrecognized arguments: -*([\w.]+)"
    r"|does not accept option '([\w.]+)'"
)
UNKNOWN_NAME = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
NO_FILE = re.compile(r"Unexpected import path format: (\S+\.(?:ya?ml|json))\b")
SHORT_NAME = re.compile(r"Expected a dot import path string: (\w+)")
NUMBER_OR_NAME = re.compile(r"Expected a <class 'float'> - Expected a dot import path string: (\S+)")  # torch's lr
OWNER_BEFORE = re.compile(r"class_path '([\w.]+)'")
OWNER_BEHIND = re.compile(r"\. Got value: Namespace\(class_path='([\w.]+)'")
KEY = re.compile(r'Parser key "([\w.]+)": ')
NOISE = re.compile(
    r" - Expected a <class 'NoneType'>.*| Given value.*|^.*? Subtypes: \[.*?\] Errors: - "
    r"|^- Expected a path but \S+ either not accessible or invalid - "
)
PLAIN_TYPE = re.compile(r"^Expected a <class '(int|float|bool)'>(?:\. Got value: (\S+))?$")
TYPES_IN_WORDS = {
    "int": "a whole number is expected",
    "float": "a number is expected",
    "bool": "true or false is expected",
}
SECTIONS = {"trainer": "lightning.pytorch.Trainer", "checkpoint": "lightning.pytorch.callbacks.ModelCheckpoint"}
LIBRARIES = ("torch.optim", "torch.optim.lr_scheduler", "lightning.pytorch.callbacks", "lightning.pytorch.loggers")
REQUIRED = re.compile(r"the following arguments are required: (.*)")


def shorten_parser_error(text: str, options: Iterable[str] = ()) -> str:
    """Return jsonargparse's nested error reduced to its cause; `options` are legal names at the top level."""
    text = " ".join(text.split())
    if unknown := UNKNOWN_KEY.search(text):
        key = next(filter(None, unknown.groups()))
        behind = OWNER_BEHIND.match(text, unknown.end())
        before = OWNER_BEFORE.findall(text, 0, unknown.start())
        owner = behind[1] if behind else before[-1] if before else ""
        section, _, rest = key.partition(".")
        if section in SECTIONS and rest:
            owner, key = SECTIONS[section], rest
        legal, first = set(_parameters(owner) if owner else options), key.partition(".")[0]
        wrong = first if legal and first not in legal else key  # what follows it may be right
        return f"{owner or 'this command'} has no setting {wrong!r}{did_you_mean(first, legal)}"
    if unknown := UNKNOWN_NAME.search(text):
        module, name = unknown.groups()
        names = [n for n, value in vars(sys.modules.get(module, sys)).items() if not inspect.ismodule(value)]
        return f"{module} has no {name!r}{did_you_mean(name, names)}"
    if required := REQUIRED.search(text):
        return f"missing: {', '.join(f'--{name.strip()}' for name in required[1].split(','))}"
    keys = KEY.findall(text)
    if file := NO_FILE.search(text):
        return f"{'.'.join(keys)}: there is no file {file[1]}"
    if number := NUMBER_OR_NAME.search(text):
        return f"{'.'.join(keys)}: a number is expected, got {number[1]!r}"
    if short := SHORT_NAME.search(text):
        return f"{'.'.join(keys)}: no class {short[1]!r}{did_you_mean(short[1], _class_names())}"
    reason = NOISE.sub("", NOISE.sub("", text[list(KEY.finditer(text))[-1].end() :] if keys else text)).strip()
    if plain := PLAIN_TYPE.match(reason):
        reason = TYPES_IN_WORDS[plain[1]] + (f", got {plain[2]!r}" if plain[2] else "")
    return f"{'.'.join(keys)}: {reason}" if keys else reason


def _parameters(path: str) -> list[str]:
    """Return the parameters of an imported class or function, base classes included."""
    module, _, name = path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    owners = found.__mro__[:-1] if isinstance(found, type) else [found]
    return [parameter for owner in owners if callable(owner) for parameter in inspect.signature(owner).parameters]


def _class_names() -> list[str]:
    """Return the public classes of imported splitlearn packages and of common Lightning and torch modules."""
    rooms = [module for path, module in list(sys.modules.items()) if path.startswith("splitlearn.")]
    rooms += [sys.modules[path] for path in LIBRARIES if path in sys.modules]
    return [name for room in rooms for name in getattr(room, "__all__", ()) if name[0].isupper()]
