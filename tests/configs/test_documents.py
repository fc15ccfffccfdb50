"""Configs are short documents; those of data and spaces fit what they are for."""

from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser
from lightning import LightningDataModule

from splitlearn.config.sweep_numbers import PointNumbers
from splitlearn.config.sweep_trial import ConfigTrial
from splitlearn.data import (
    DetectionDataModule,
    ImageFolder,
    ImageNet,
    ObjectsDataModule,
    Photos,
    SegmentationDataModule,
)
from splitlearn.sweep import Drawing, Space
from tests.configs.runs import CONFIGS, DATTA, EXPERIMENTS, ROOT, name

PRINTED, FACTORIZED = CONFIGS / "datta2022/printed.yaml", CONFIGS / "datta2022/ours_factorized.yaml"
MASKS = [CONFIGS / "datta2022/deeplabv3_mobilenetv2.yaml", PRINTED]
CALTECH = [CONFIGS / "carra2023/mobilenet_v2.yaml", PRINTED]
SPACES = {  # and the configs that they are drawn over
    "quickstart": [CONFIGS / "quickstart.yaml"],
    "quickstart_quantizers": [CONFIGS / "quickstart.yaml"],
    "datta2022_classification": [CONFIGS / "carra2023/resnet50.yaml", CONFIGS / "datta2022/resnet50.yaml"],
    "datta2022_mobilenet_v2": [CONFIGS / "carra2023/mobilenet_v2.yaml", CONFIGS / "datta2022/mobilenet_v2.yaml"],
    "datta2022_segmentation": [CONFIGS / "datta2022/deeplabv3_resnet50.yaml"],
    "datta2022_cifar_paper": [DATTA],
    "datta2022_cifar_ours": [DATTA, FACTORIZED],
    "datta2022_masks_paper": MASKS,
    "datta2022_masks_ours": [*MASKS, FACTORIZED],
    "datta2022_caltech_paper": CALTECH,
    "datta2022_caltech_ours": [*CALTECH, FACTORIZED],
}


@pytest.mark.parametrize("path", sorted((CONFIGS / "data").glob("*.yaml")), ids=name)
def test_data_config_builds(path: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    data = parser.instantiate(parser.parse_object({"data": yaml.safe_load(path.read_text())})).data
    if isinstance(data, DetectionDataModule):
        assert data.image_shape == (3, 640, 640)
        return
    if isinstance(data, ObjectsDataModule):
        assert data.batch_size >= 1
        return
    if isinstance(data, SegmentationDataModule):
        assert (data.image_shape, data.num_classes) == ((3, 513, 513), 21)
        return
    assert data.image_shape == ((3, 224, 224) if isinstance(data, (ImageNet, Photos)) else (3, 32, 32))
    if isinstance(data, Photos):
        assert data.num_classes == 0
        return
    if not isinstance(data, ImageFolder):  # whose classes are those of the folder
        assert data.num_classes == 10


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=name)
def test_config_is_a_short_document(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 30
    assert lines[0].startswith("# ")
    if path in EXPERIMENTS:
        assert name(path) in (CONFIGS / "README.md").read_text()
        assert any("splitlearn " in line and line.startswith("#") for line in lines), "the launch line is missing"


@pytest.mark.parametrize("path", sorted((CONFIGS / "spaces").glob("*.yaml")), ids=name)
def test_spaces_fit_their_configs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = [w for config in (CONFIGS / "trainer.yaml", *SPACES[path.stem]) for w in ("--config", str(config))]
    trial = ConfigTrial(tuple(words), Path("out"), "sweep", None, "float16", 1)
    space = Space.read(path)
    for number in range(2):
        values = space.point(0, number)
        settings = trial.parse(values)
        found = str(settings.model.init_args.rate_weight)
        assert found == str(values["model.rate_weight"])
    if space.where:
        assert len(list(Drawing(space, 2, 0, numbers=PointNumbers(trial)).ahead({}))) == 2
