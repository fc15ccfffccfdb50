"""Hook of hatchling: what is built holds only files that git knows, so nothing ships by accident."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KnownFiles(BuildHookInterface):  # type: ignore[misc]
    """Checks the files of a wheel or an sdist that is built in a checkout; an unpacked sdist has nothing to check."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Refuse files that git does not know, and warn of changed ones.

        Args:
            version: kind of the build, such as "standard" or "editable".
            build_data: further settings of the build, which stay as they are.

        Raises:
            RuntimeError: if files would ship that git does not know, of which it names the first; or if git fails.
        """
        root = Path(self.root)
        if version == "editable" or not (root / ".git").exists():
            return
        files = self.build_config.builder.recurse_included_files()
        shipped = {Path(file.path).relative_to(root).as_posix() for file in files}
        if odd := sorted(shipped - _listed(root, "--cached")):
            more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
            raise RuntimeError(f"{odd[0]}{more} would ship, but git does not know it: commit it or move it away")
        if changed := sorted(shipped & _listed(root, "--modified")):
            self.app.display_warning(f"built with uncommitted changes: {', '.join(changed[:5])}")


def _listed(root: Path, which: str) -> set[str]:
    """Return the paths that `git ls-files` lists."""
    try:
        done = subprocess.run(["git", "ls-files", "-z", which], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f"git must list the files of a checkout that is built, and it fails: {error}") from error
    return set(done.stdout.split("\0")) - {""}
