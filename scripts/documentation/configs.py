"""Pages that show the shipped configs as they are."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def config_files() -> list[Path]:
    """Return all shipped configs, relative to the project's folder."""
    return sorted(path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml"))


def write_configs(file: Path) -> None:
    """Write the page of all configs, each as it stands."""
    lines = [
        "# All configs",
        "",
        "Each as it is shipped. [Config files](../reference/configs.md) tells how they combine.",
    ]
    for folder, paths in groupby(config_files(), lambda path: path.parent):
        lines += ["", f"## {folder}"]
        for path in paths:
            lines += ["", f"### {path}", "", "````yaml", (ROOT / path).read_text().rstrip(), "````"]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
