"""Files that describe a search space: YAML whose numbers are numbers and whose words are words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from splitlearn.files import read_yaml
from splitlearn.shipped import located
from splitlearn.sweep.distributions import SpaceError

WHEN, WHERE = "when", "where"  # beside a distribution, and beside all parameters
DIGITS = r"\d+(?:_\d+)*"
NUMBER = re.compile(rf"[-+]?(?:{DIGITS}(?:\.(?:{DIGITS})?)?|\.{DIGITS})(?:[eE][-+]?\d+)?$")


class _Loader(yaml.SafeLoader):
    """YAML loader that reads decimal numbers, such as 1e-3, as numbers and all else as text, for the config's parser.

    YAML 1.1 would read 1e-3 as text, 010 as eight and `no` as false, for any parameter.
    """

    def number(self, node: yaml.ScalarNode) -> int | float:
        """Return the number that a plain scalar represents."""
        try:
            return int(node.value)
        except ValueError:
            return float(node.value)


_Loader.yaml_implicit_resolvers = {}  # its own, without those of the base class
_Loader.add_implicit_resolver("!number", NUMBER, list("-+.0123456789"))
_Loader.add_constructor("!number", _Loader.number)


def read_space_file(path: Path) -> dict[str, Any]:
    """Return the content of a space file, by parameter.

    Raises:
        FileNotFoundError: if there is no such file, shipped ones included.
        SpaceError: if it is not YAML, or holds no parameters.
    """
    path = located(path)
    if not path.is_file():
        raise FileNotFoundError(f"no space at {path}; configs/spaces/datta2022_classification.yaml is an example")
    try:
        content = read_yaml(path, _Loader)
    except ValueError as error:
        raise SpaceError(str(error)) from None
    if not isinstance(content, dict):
        raise SpaceError(f"{path} holds no parameters: write one a line, PATH: {{choice: [1, 2]}}")
    return {str(name): each for name, each in content.items()}


def conditions_in(given: Any) -> list[str]:
    """Return the conditions of a space file's `where`, one text or a list of texts; raises SpaceError for others."""
    texts = given if isinstance(given, list) else [given]
    if not all(isinstance(text, str) for text in texts):
        raise SpaceError(f"{WHERE} takes conditions such as [device_macs < 5e6], got {given}")
    return texts
