"""Models by name: shipped ones, folders, and repositories of a hub; nothing but safetensors and JSON is read."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from splitlearn.config.build import task_from
from splitlearn.deploy import (
    PretrainedError,
    load_bank,
    opened_pretrained,
    pretrained_names,
    push_to_hub,
    save_pretrained,
)
from splitlearn.models import (
    InputModel,
    SplitModel,
    VariableRateModel,
    from_pretrained,
    mobilenet_v2_same,
    replaced,
    resnet20,
)
from splitlearn.reporting import model_card
from splitlearn.tasks.trust import UntrustedError, check_settings
from tests.deploy.hub_server import Hub

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
BANK, BOTTLENECK, DIGITS = "resnet20-cifar10-layer3-bank", "resnet32-cifar10-layer2-4levels", "resnet8-digits"
RESOLVE = "/{repo_id}/resolve/{revision}/{filename}"
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The network of the digits as a folder of its own."""
    return save_pretrained(
        CHECKPOINTS / "resnet8_digits.safetensors",
        tmp_path / "digits",
        name="my-digits",
        data="digits",
        rebuild="scripts/demo",
        network="resnet8",
        num_classes=10,
    )


def changed(folder: Path, **model: Any) -> Path:
    """Change entries of a record: those of its model, or of the record itself if they stand there."""
    record = json.loads((folder / "splitlearn.json").read_text())
    for name, value in model.items():
        (record if name in record else record["model"])[name] = value
    (folder / "splitlearn.json").write_text(json.dumps(record))
    return folder


def test_a_bank_is_that_of_its_file() -> None:
    model = from_pretrained(BANK)
    network = resnet20(weights=CHECKPOINTS / "resnet20_cifar10_jpeg.safetensors")
    bank = load_bank(CHECKPOINTS / "resnet20_layer3_bank.safetensors", network)
    assert isinstance(model, VariableRateModel)
    assert not model.training
    payloads = model.compress(IMAGES)
    assert payloads == bank.compress(IMAGES)
    assert torch.equal(model.decompress(payloads), bank.decompress(payloads))


@pytest.mark.parametrize(("name", "kind"), [(BOTTLENECK, SplitModel), (DIGITS, InputModel)])
def test_other_shipped_models(name: str, kind: type[nn.Module]) -> None:
    model = from_pretrained(name)
    assert isinstance(model, kind)
    assert model.decompress(model.compress(IMAGES)).shape == (2, 10)


def test_a_bottleneck_of_photographs_takes_the_network_that_it_belongs_to(shared_data: Path) -> None:
    name = "mobilenetv2-caltech101-features14-0.015"
    with pytest.raises(PretrainedError, match=f"the record of {name} names no weights of its network: give it"):
        from_pretrained(name)
    network = mobilenet_v2_same(shared_data / "weights" / "mobilenet_v2_imagenet.safetensors")
    classifier = CHECKPOINTS / "photographs" / "caltech101_classifier.safetensors"
    model = from_pretrained(name, replaced(network, "classifier.1", nn.Linear(1280, 100), classifier))
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    assert model.decompress(model.compress(images)).shape == (2, 100)
    assert "| 86.93 | 448.75 | 24,576 |" in model_card(name)


def test_a_config_names_one() -> None:
    model = {"class_path": "splitlearn.models.from_pretrained", "init_args": {"source": DIGITS}}
    settings = {"class_path": "splitlearn.tasks.ClassificationTask", "init_args": {"num_classes": 10, "model": model}}
    assert isinstance(task_from(settings).get_submodule("model"), InputModel)
    with pytest.raises(
        UntrustedError, match=r"names the class 'splitlearn\.models\.from_pretrained'"
    ):  # it may download
        check_settings(settings, "checkpoint", "train it again")


def test_every_shipped_model_has_a_card_with_all_that_its_record_says() -> None:
    assert {BANK, BOTTLENECK, DIGITS, "resnet20-cifar10", "resnet32-cifar10"} <= set(pretrained_names())
    for name in pretrained_names():
        record, path = opened_pretrained(name)
        card = model_card(name)
        for said in (record.licence, record.data, record.rebuild, record.sha256, f'from_pretrained("{name}")'):
            assert said in card
        assert all((path.parent / file).is_file() for file in record.files)
    card = model_card(BANK)
    assert "A bank of 6 compression rates for the network `resnet20`" in card
    assert "| rate 0 | 29.17 | 0.228 | 256 | 87.16 | 99.57 |" in card
    assert "license: apache-2.0" in card


def test_a_folder(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["resnet8_digits.safetensors", "splitlearn.json"]
    assert torch.equal(from_pretrained(folder)(IMAGES), from_pretrained(DIGITS)(IMAGES))
    assert 'from_pretrained("OWNER/my-digits")' in model_card(folder)


def test_a_bank_with_its_network_as_a_folder(tmp_path: Path) -> None:
    words: dict[str, Any] = {"name": "b", "data": "CIFAR-10", "rebuild": "…", "network": "resnet20", "num_classes": 10}
    weights, other = CHECKPOINTS / "resnet20_cifar10_jpeg.safetensors", CHECKPOINTS / "resnet8_digits.safetensors"
    bank = CHECKPOINTS / "resnet20_layer3_bank.safetensors"
    saved = save_pretrained(bank, tmp_path / "bank", weights=weights, **words)
    assert from_pretrained(str(saved)).compress(IMAGES) == from_pretrained(BANK).compress(IMAGES)
    without = save_pretrained(bank, tmp_path / "without", **words | {"network": None})
    with pytest.raises(PretrainedError, match="the record of b names no network: give it with its weights, network=…"):
        from_pretrained(without)
    assert from_pretrained(without, resnet20(weights=weights)).compress(IMAGES) == from_pretrained(BANK).compress(
        IMAGES
    )
    with pytest.raises(ValueError, match="these weights belong to another architecture"):
        save_pretrained(bank, tmp_path / "wrong", weights=other, **words)
    shutil.copy(bank, tmp_path / "alone.safetensors")
    with pytest.raises(
        FileNotFoundError, match=r"no record .*alone\.json: splitlearn export and splitlearn bank write it"
    ):
        save_pretrained(tmp_path / "alone.safetensors", tmp_path / "x", **words)


def test_names_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(PretrainedError, match=f"no model 'resnet20-cifar-bank', did you mean {BANK}"):
        from_pretrained("resnet20-cifar-bank")
    with pytest.raises(PretrainedError, match=r"no model 'xyzzy', shipped are .*resnet20-cifar10,"):
        from_pretrained("xyzzy")
    with pytest.raises(PretrainedError, match=r"has no splitlearn.json: splitlearn.deploy.save_pretrained writes"):
        from_pretrained(tmp_path)
    with pytest.raises(PretrainedError, match="resnet8-digits is a whole network: load it without network="):
        from_pretrained(DIGITS, resnet20())


def test_damaged_and_foreign_files(folder: Path) -> None:
    file = folder / "resnet8_digits.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(PretrainedError, match="is damaged, it is not the file that its record describes"):
        from_pretrained(folder)
    torch.save(resnet20().state_dict(), file)
    with pytest.raises(PretrainedError, match="is no safetensors file, and no other is read"):
        from_pretrained(folder)
    file.unlink()
    with pytest.raises(PretrainedError, match=r"is missing: copy it beside its record splitlearn\.json"):
        from_pretrained(folder)
    (folder / "splitlearn.json").write_text("[" * 100_000)
    with pytest.raises(PretrainedError, match="is no readable record of a model"):
        from_pretrained(folder)


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"network": "os.system"}, "names the network 'os.system', not known here: give it with its weights"),
        ({"network": "torchvision/../x"}, "names the network 'torchvision/../x', not known here"),
        ({"num_classes": 10**9}, "it names 1000000000 classes"),
        (
            {"file": "../../secret.safetensors"},
            "it names the file '../../secret.safetensors', and only safetensors files",
        ),
        ({"weights": "weights.pt"}, "it names the file 'weights.pt', and only safetensors files beside it are read"),
        ({"metrics": {"test/accuracy": "high"}}, "it holds metrics that are no numbers"),
        ({"licence": None}, "it has None as its licence"),
        ({"mean": "x", "std": [1.0]}, "it normalizes images by x"),
    ],
)
def test_forged_records(folder: Path, entries: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PretrainedError) as caught:
        from_pretrained(changed(folder, **entries))
    assert sentence in str(caught.value)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub().served() as served:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", served.address)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", served.address + RESOLVE)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        yield served


def test_a_repository_of_the_hub(hub: Hub, folder: Path) -> None:
    address = push_to_hub(BANK, "someone/bank", card=model_card(BANK))
    assert address == f"{hub.address}/someone/bank"
    names = ["README.md", "resnet20_cifar10_jpeg.safetensors", "resnet20_layer3_bank.safetensors", "splitlearn.json"]
    assert sorted(hub.repositories["someone/bank"]) == names
    assert from_pretrained("someone/bank").compress(IMAGES) == from_pretrained(BANK).compress(IMAGES)
    asked = {path.rpartition("/")[2] for path in hub.paths if "/resolve/" in path}
    assert asked == set(names) - {"README.md"}  # nothing else of a repository is fetched
    push_to_hub(folder, "someone/digits", card=model_card(folder))
    assert torch.equal(from_pretrained("someone/digits", revision="main")(IMAGES), from_pretrained(DIGITS)(IMAGES))


def test_what_the_hub_does_not_have(hub: Hub) -> None:
    hub.repositories["someone/other"] = {"model.safetensors": b""}
    with pytest.raises(PretrainedError, match="there is no folder and no repository someone/absent on the hub"):
        from_pretrained("someone/absent")
    with pytest.raises(PretrainedError, match=r"someone/other has no file splitlearn\.json, so it is no repository of"):
        from_pretrained("someone/other")
    with pytest.raises(PretrainedError, match="someone/other has no revision v9: name one of its branches"):
        from_pretrained("someone/other", revision="v9")
    record = (CHECKPOINTS / "resnet8_digits.json").read_bytes()
    hub.repositories["someone/half"] = {"splitlearn.json": record}
    with pytest.raises(PretrainedError, match=r"someone/half has no file resnet8_digits\.safetensors, which its"):
        from_pretrained("someone/half")
    with pytest.raises(PretrainedError, match="a repository is named OWNER/NAME, got 'bank'"):
        push_to_hub(BANK, "bank", card="")


def test_without_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    push_to_hub(DIGITS, "someone/digits", card="")
    expected = from_pretrained("someone/digits")(IMAGES)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", nobody)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # before it tries again
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", nobody + RESOLVE)
    assert torch.equal(from_pretrained("someone/digits")(IMAGES), expected)  # from the cache
    with pytest.raises(PretrainedError, match="someone/new is no folder, is not in the cache, and the hub is not"):
        from_pretrained("someone/new")
    with pytest.raises(PretrainedError, match="someone/digits cannot be written: "):
        push_to_hub(DIGITS, "someone/digits", card="")
