import errno
import json
import re
from pathlib import Path

import pytest

from splitlearn.files import read_yaml, size_text, whole_file, write_json


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.png"
    with whole_file(path) as temporary:
        temporary.write_bytes(b"half")
        assert not path.exists()
        assert temporary.suffix == ".png"  # writers choose their format by it
        assert temporary.parent == path.parent  # renaming is atomic within one file system only
    assert path.read_bytes() == b"half"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()])
def test_a_failure_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def write() -> None:
        with whole_file(path) as temporary:
            temporary.write_bytes(b"ne")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_device_is_told(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def write() -> None:
        with whole_file(path) as temporary:
            temporary.symlink_to("/dev/full")
            temporary.write_bytes(b"new")

    with pytest.raises(OSError, match="No space left") as caught:
        write()
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_takes_what_it_does_not_know_as_text(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.json"
    write_json(path, {"number": 1.5, "path": Path("a/b"), "list": [1, None]})
    assert json.loads(path.read_text()) == {"number": 1.5, "path": "a/b", "list": [1, None]}
    assert path.read_text().endswith("}\n")
    write_json(path, {})
    assert json.loads(path.read_text()) == {}


def test_lists_of_numbers_stand_on_one_line(tmp_path: Path) -> None:
    content = {"sizes": [1, 2.5, -3e-9, None, True], "pairs": [[1, 2], []], "texts": ["[1,  2]", "a\n[\n1  ,\n2]"]}
    write_json(tmp_path / "r.json", content)
    text = (tmp_path / "r.json").read_text()
    assert json.loads(text) == content
    assert '"sizes": [1, 2.5, -3e-09, null, true],\n' in text
    assert "    [1, 2],\n" in text


def test_sizes_are_told_in_the_unit_that_shows_them() -> None:
    sizes = [0, 512, 40_000, 3_200_000, 24e9, 5e12]
    told = ["0.0 bytes", "512.0 bytes", "40.0 kB", "3.2 MB", "24.0 GB", "5,000.0 GB"]
    assert [size_text(size) for size in sizes] == told


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xff\xfea\x00", "is no text in UTF-8: save it as UTF-8"),
        (b"a: caf\xe9", "is no text in UTF-8"),
        (b"a: [1", "is not valid YAML: while parsing"),
        (b"a: 2026-13-45", "is not valid YAML: month must be in 1..12"),
        (b"[" * 20_000, "is not valid YAML: "),
        (b"\0", "is not valid YAML: "),
        (b"a: 1" + b"0" * 5000, "is not valid YAML: "),
        (b"a: &a\n  b: *a\n", "holds more than 100,000 values, perhaps through aliases"),
        (b"".join(b"- &%d [%s]\n" % (i, b"*%d, *%d" % (i - 1, i - 1) if i else b"1") for i in range(40)), "holds more"),
        (b"!!python/object/apply:os.getcwd []", "is not valid YAML: could not determine a constructor"),
    ],
)
def test_damaged_yaml_is_named(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{file} {sentence}")):
        read_yaml(file)


def test_yaml_with_a_mark_is_read(tmp_path: Path) -> None:
    file = tmp_path / "good.yaml"
    file.write_bytes(b"\xef\xbb\xbfseed: 1\n")
    assert read_yaml(file) == {"seed": 1}
