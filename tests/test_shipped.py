"""Configs and weights that ship are found from anywhere, behind those of the working directory."""

from pathlib import Path

import pytest

import splitlearn
from splitlearn.config.build import config_settings
from splitlearn.config.options import with_shipped
from splitlearn.models import resnet8, resnet20
from splitlearn.shipped import located, shipped_root

ROOT = Path(__file__).parents[1]
QUICKSTART = "configs/quickstart.yaml"


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_working_directory_comes_first() -> None:
    assert located(QUICKSTART) == shipped_root() / QUICKSTART == ROOT / QUICKSTART
    Path("configs").mkdir()
    Path(QUICKSTART).touch()
    assert located(QUICKSTART) == Path(QUICKSTART)


@pytest.mark.parametrize(
    "path", ["", ".", "configs/absent.yaml", "README.md", "../configs", "configs/../README.md", "/x"]
)
def test_other_paths_stay(path: str) -> None:
    assert located(path) == Path(path)


def test_a_wheel_has_them_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site-packages/splitlearn"
    (installed / "shipped/configs").mkdir(parents=True)
    (installed / "shipped/configs/a.yaml").touch()
    (installed.parent / "configs").mkdir()  # of another package
    (installed.parent / "configs/b.yaml").touch()
    monkeypatch.setattr("splitlearn.shipped.__file__", str(installed / "shipped.py"))
    assert located("configs/a.yaml") == installed / "shipped/configs/a.yaml"
    assert located("configs/b.yaml") == Path("configs/b.yaml")


def test_options_that_name_configs() -> None:
    here, space = str(ROOT / QUICKSTART), "configs/spaces/quickstart.yaml"
    words = ["--config", QUICKSTART, f"--config={QUICKSTART}", "--data", "splitlearn.data.Digits", "--out", space]
    assert with_shipped(words) == ["--config", here, f"--config={here}", *words[3:]]
    assert with_shipped(["--config", "", "--data={a: b//c}", "--config"]) == [
        "--config",
        "",
        "--data={a: b//c}",
        "--config",
    ]


def test_a_config_that_ships_names_data_and_weights_that_ship() -> None:
    settings = config_settings(Path(QUICKSTART), None)
    assert settings["data"]["class_path"] == "splitlearn.data.Digits"
    network = settings["model"]["init_args"]["model"]["init_args"]["net"]["init_args"]["model"]
    assert resnet8(**network["init_args"]).num_classes == 10
    with pytest.raises(FileNotFoundError, match=r"no weights file at .*checkpoints/absent\.safetensors"):
        resnet20(weights="checkpoints/absent.safetensors")


def test_the_version_stands_once() -> None:
    assert splitlearn.__version__ not in (ROOT / "pyproject.toml").read_text()
    assert f"## [{splitlearn.__version__}] - " in (ROOT / "CHANGELOG.md").read_text()
