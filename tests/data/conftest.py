from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

MakeFolder = Callable[..., Path]


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Write `<part>/<class>/<n>.png`, every image in a colour of its own: (part, class, number)."""

    def make(
        parts: Sequence[str], classes: Sequence[str] = ("cat", "dog"), count: int = 10, size: tuple[int, int] = (8, 8)
    ) -> Path:
        for p, part in enumerate(parts):
            for c, name in enumerate(classes):
                (tmp_path / part / name).mkdir(parents=True)
                for n in range(count):
                    Image.new("RGB", size, (80 * p, 80 * c, n)).save(tmp_path / part / name / f"{n:03}.png")
        return tmp_path

    return make
