"""What a checkpoint's config may make: what splitlearn and torch offer, at any depth, and nothing else."""

from __future__ import annotations

import copy
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import splitlearn.deploy  # its loaders may be named once it is here
from splitlearn.config.build import task_from
from splitlearn.config.loading import load_task
from splitlearn.resource_errors import ShortageError
from splitlearn.tasks import CheckpointError, UntrustedError, check_settings
from splitlearn.tasks.loading import CONFIG_KEY, bounded, config_of, read_checkpoint
from splitlearn.tasks.trust import known
from splitlearn.testing.verdict import address_space

ROOT = Path(__file__).parents[2]
WEIGHTS = str(ROOT / "checkpoints" / "resnet8_digits.safetensors")
RAN: list[str] = []
Settings = dict[str, Any]


class Runs(torch.nn.Module):
    """Tells that it was made."""

    def __init__(self, text: str = "made") -> None:
        super().__init__()
        RAN.append(text)


def runs() -> torch.nn.Module:
    return Runs("called")


MINE = f"{__name__}.Runs"


def described(path: str, /, **arguments: Any) -> Settings:
    return {"class_path": path, "init_args": arguments}


def settings() -> Settings:
    network = described("splitlearn.models.resnet8", weights=WEIGHTS)
    net = described("splitlearn.models.split", model=network, at="layer2", example=[3, 32, 32])
    unit = described("splitlearn.models.NormalizedSeparable", channels=4, stride=2)
    step, huffman = described("splitlearn.quantizers.Step", step=0.1), {"class_path": "splitlearn.codecs.Huffman"}
    model = described("splitlearn.models.SplitModel", net=net, quantizer=step, codec=huffman, bottleneck=unit)
    return described(
        "splitlearn.tasks.ClassificationTask",
        model=model,
        num_classes=10,
        rate_loss={"class_path": "splitlearn.losses.L1Rate"},
        optimizer=described("torch.optim.Adam", lr=0.01),
        lr_scheduler=described("torch.optim.lr_scheduler.MultiStepLR", milestones=[3]),
    )


def checkpoint(folder: Path, config: Any) -> Path:
    path = folder / "last.ckpt"
    torch.save({"state_dict": task_from(settings()).state_dict(), CONFIG_KEY: {"model": config}}, path)
    RAN.clear()
    return path


def inner(found: Settings, *names: str) -> Settings:
    for name in names:
        found = found["init_args"][name]
    return found


def put(*names: str, value: Any) -> Callable[[Settings], Any]:
    def change(found: Settings) -> None:
        inner(found, *names[:-1])["init_args"][names[-1]] = value

    return change


FORGERIES: dict[str, Callable[[Settings], Any]] = {
    "task": lambda found: found.update(class_path=MINE, init_args={}),
    "network": put("model", "net", "model", value={"class_path": MINE}),
    "function": put("model", "net", "model", value={"class_path": f"{__name__}.runs"}),
    "by name": put("model", "net", "model", value=MINE),
    "backbone": put("model", "net", "model", value=described("splitlearn.models.backbone", name=f"{__name__}.runs")),
    "in a list": put("model", "net", "model", value=described("torch.nn.Sequential", args=[{"class_path": MINE}])),
    "quantizers": put("model", "quantizer", value=[{"class_path": MINE}]),
    "codec": put("model", "codec", value={"class_path": "splitlearn.__main__.Huffman"}),
    "bottleneck": put("model", "bottleneck", value=MINE),
    "optimizer": put("optimizer", value={"class_path": "os.system", "dict_kwargs": {"command": "true"}}),
    "lambda": put("lr_scheduler", value=described("torch.optim.lr_scheduler.LambdaLR", lr_lambda=f"{__name__}.runs")),
    "in words of YAML": put("rate_loss", value=f'{{"class_path": "{MINE}"}}'),
    "partial": put("model", "bottleneck", value=described("functools.partial", func=f"{__name__}.runs")),
    "dict_kwargs": lambda found: inner(found, "model", "net").update(dict_kwargs={"other": {"class_path": MINE}}),
    "the name above init_args": lambda found: inner(found, "model", "net")["init_args"].update(
        model=described("splitlearn.models.backbone", name="resnet8") | {"dict_kwargs": {"name": f"{__name__}.runs"}}
    ),
    "the name in dict_kwargs alone": lambda found: inner(found, "model", "net")["init_args"].update(
        model={"class_path": "splitlearn.models.backbone", "dict_kwargs": {"name": f"{__name__}.runs"}}
    ),
    "in words that one reader of YAML takes": put(
        *("model", "net", "model"),
        value=described("torch.nn.Linear", device=f'{{"class_path": "{MINE}", "x": 2020-13-45}}'),
    ),
    "itself": put("model", "net", "model", value=described("torch.nn.Identity", self=MINE)),
    "an exception": put("rate_loss", value=described("splitlearn.codecs.CodecError", args=MINE)),
    "dots in a name": lambda found: found["init_args"].update({"model.net.model": {"class_path": MINE}}),
    "another key": lambda found: found.update({"init_args.model": {"class_path": MINE}}),
    "no text": put("model", "codec", value={"class_path": 7}),
    "deep": put("rate_loss", value=eval("[" * 60 + "]" * 60)),
    "a large image above init_args": lambda found: inner(found, "model", "net").update(
        dict_kwargs={"example": [3, 60_000, 60_000]}
    ),
    "a large image": put("model", "net", "example", value=[3, 60_000, 60_000]),
    "an image of sixteen million values": put("model", "net", "example", value=[3, 2364, 2364]),
    "no settings": lambda found: found.clear(),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_classes_of_strangers_are_not_made(tmp_path: Path, name: str) -> None:
    found = settings()
    FORGERIES[name](found)
    path = checkpoint(tmp_path, found)
    known()
    before = set(sys.modules)
    with pytest.raises(UntrustedError, match=r"last.ckpt .*is not run: give the config .*--config FILE$"):
        load_task(path)
    assert RAN == []
    assert set(sys.modules) == before


def test_a_module_that_is_not_loaded_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stranger.py").write_text("import os\nos.environ['STRANGER'] = 'ran'\nclass Net: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = settings()
    inner(found, "model", "net")["init_args"]["model"] = {"class_path": "stranger.Net"}
    with pytest.raises(UntrustedError, match=r"names the class 'stranger.Net', which is none of splitlearn's own"):
        load_task(checkpoint(tmp_path, found))
    assert "STRANGER" not in os.environ


def test_own_settings_are_taken(tmp_path: Path) -> None:
    task = load_task(checkpoint(tmp_path, settings()))
    assert not task.training


def test_loaders_are_known_by_both_paths() -> None:
    for loader in (splitlearn.deploy.load_bank, splitlearn.deploy.load_bottleneck):
        assert known()[f"splitlearn.deploy.{loader.__name__}"] is known()[f"{loader.__module__}.{loader.__name__}"]


def test_trusted_settings_are_taken(tmp_path: Path) -> None:
    found = settings()
    inner(found, "model", "net")["init_args"]["model"] = described(
        "splitlearn.models.backbone", name="tests.tasks.test_trust.trusted"
    )
    path = checkpoint(tmp_path, found)
    with pytest.raises(UntrustedError, match=r"names the network 'tests.tasks.test_trust.trusted'"):
        load_task(path)
    load_task(path, settings())
    load_task(path, config_of(read_checkpoint(path), path)["model"])
    assert RAN == ["trusted"]


def trusted() -> torch.nn.Module:
    from splitlearn.models import resnet8

    RAN.append("trusted")
    return resnet8(weights=WEIGHTS)


def test_forged_sizes_are_refused_before_they_are_filled(tmp_path: Path) -> None:
    for names, value in ((("model", "bottleneck", "channels"), 30_000_000), (("model", "net", "model"), None)):
        found = settings()
        big = described("torch.nn.Linear", in_features=5000, out_features=20_000)
        put(*names, value=big if value is None else value)(found)
        with pytest.raises(CheckpointError, match="asks for far more weights than it holds"):
            load_task(checkpoint(tmp_path, found))


def test_sizes_that_no_machine_has_are_told_in_one_line(tmp_path: Path) -> None:
    found = settings()
    put("model", "bottleneck", "channels", value=2**31 - 1)(found)
    path = checkpoint(tmp_path, found)
    refused = pytest.raises(ShortageError, match=r"last.ckpt need more memory than available .*: free memory")
    with address_space(2**28), refused as told:
        load_task(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("tensor", [torch.zeros(1).expand(2**40), torch.empty(2**40, device="meta")])
def test_tensors_without_values_allow_no_others(tmp_path: Path, tensor: torch.Tensor) -> None:
    path = checkpoint(tmp_path, settings())
    content = torch.load(path, weights_only=True)
    content["state_dict"]["zz"] = tensor
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="names tensors without their values"):
        load_task(path)


def test_a_tensor_under_many_names_counts_once(tmp_path: Path) -> None:
    one = torch.zeros(2**20)
    state = {str(number): one[:] for number in range(100)}
    with pytest.raises(CheckpointError, match="far more weights"), bounded(state, tmp_path):
        torch.nn.Linear(5000, 20_000)


def test_settings_come_to_an_end(tmp_path: Path) -> None:
    many: Any = 1
    for _ in range(30):
        many = [many, many, many]
    endless: Settings = {}
    endless["model"] = endless
    for value in (many, endless):
        found = settings()
        put("model", "net", "example", value=value)(found)
        with pytest.raises(UntrustedError, match="holds settings without end"):
            check_settings(found, tmp_path, "no remedy")


@pytest.mark.parametrize("config", [None, [], "text", {"model": 3}, {}])
def test_configs_that_are_none_are_refused(tmp_path: Path, config: Any) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}, CONFIG_KEY: config}, path)
    with pytest.raises(CheckpointError, match="holds no config"):
        load_task(path)


def sections() -> list[tuple[str, Settings]]:
    found = []
    for file in sorted((ROOT / "configs").rglob("*.yaml")):
        content = yaml.safe_load(file.read_text())
        found += [
            (f"{file.relative_to(ROOT)}: {name}", content[name])
            for name in ("model", "data")
            if isinstance(content, dict) and isinstance(content.get(name), dict) and "class_path" in content[name]
        ]
    return found


SECTIONS = sections()


@pytest.mark.parametrize(("name", "section"), SECTIONS, ids=[name for name, _ in SECTIONS])
def test_shipped_configs_need_no_trust(name: str, section: Settings) -> None:
    if "deeplabv3_mobilenetv2" in name and name.endswith("model"):  # a network that splitlearn does not know
        with pytest.raises(UntrustedError, match=r"the network 'deeplabv3_mobilenetv2.DeepLabMNV2'"):
            check_settings(section, name, "see there")
    else:
        check_settings(copy.deepcopy(section), name, "see there")


def test_each_flipped_byte_of_a_checkpoint_shows(tmp_path: Path) -> None:
    """In what tensors hold, and in the description of them; torch compares no checksum."""
    path = checkpoint(tmp_path, settings())
    whole = path.read_bytes()
    parts = zipfile.ZipFile(path).infolist()
    for part in [p for p in parts if p.file_size > 100][:6]:
        at = part.header_offset + 30 + 100 + part.file_size // 2
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(CheckpointError, match="is damaged or no checkpoint"):
            read_checkpoint(path)


def test_a_packed_checkpoint_is_refused(tmp_path: Path) -> None:
    path, other = checkpoint(tmp_path, settings()), tmp_path / "other.ckpt"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as packed:
        for part in whole.infolist():
            packed.writestr(part.filename, whole.read(part))
    with pytest.raises(CheckpointError, match="is damaged or no checkpoint"):
        read_checkpoint(other)
