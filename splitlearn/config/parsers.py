"""Parsers of configs that are fast for deeply nested settings."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.cli import LightningArgumentParser


class ConfigParser(ArgumentParser):
    """Parser that does not parse settings again to merge them with themselves.

    jsonargparse checks parsed settings by parsing them again, merged into a copy of themselves. It does the same for
    nested settings, so each level of nesting doubles the time.
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
            namespace: earlier settings, into which `obj` is merged.
            env: whether environment variables are read too; None uses the setting of the parser.
            defaults: whether defaults are added.
            **internal: arguments of internal calls of jsonargparse.
        """
        earlier = None if namespace == obj else namespace
        parsed: Namespace = super().parse_object(obj, earlier, env, defaults, **internal)
        return parsed


class TrainerParser(ConfigParser, LightningArgumentParser):
    """`ConfigParser` for LightningCLI."""
