"""Parsers of configs that are quick with deeply nested settings."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.cli import LightningArgumentParser


class ConfigParser(ArgumentParser):
    """Parser that does not parse settings twice where they are to be merged with themselves.

    jsonargparse checks parsed settings by parsing them again, merged into a copy of themselves, and so it does with
    those nested in them: each level of nesting doubles the work.
    """

    def parse_object(
        self,
        obj: Namespace | dict[str, Any],
        namespace: Namespace | None = None,
        env: bool | None = None,
        defaults: bool = True,
        **internal: Any,
    ) -> Namespace:
        """Return parsed settings, as jsonargparse does.

        Args:
            obj: the settings.
            namespace: earlier settings, which these are merged into.
            env: whether environment variables are read too; None leaves that to the parser.
            defaults: whether defaults are added.
            **internal: for calls of jsonargparse from itself.
        """
        earlier = None if namespace == obj else namespace
        parsed: Namespace = super().parse_object(obj, earlier, env, defaults, **internal)
        return parsed


class TrainerParser(ConfigParser, LightningArgumentParser):
    """The same for LightningCLI."""
