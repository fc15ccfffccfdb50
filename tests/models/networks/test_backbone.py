import copy
import csv
import importlib
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import fx, nn
from torchvision.transforms import v2

from splitlearn.models import WeightsError, backbone, load_weights, mobilenet_v2_same, same_padding
from splitlearn.models.networks.resnet_cifar import CifarResNet

# `import … as` would give the function of that name, which the package exports
module = importlib.import_module("splitlearn.models.networks.backbone")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_weights_survive_a_file_and_are_cast(tmp_path: Path, suffix: str) -> None:
    saved, loaded = nn.Linear(3, 2), nn.Linear(3, 2)
    state = {key: value.detach().half() for key, value in saved.state_dict().items()}
    file = tmp_path / f"w{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    load_weights(loaded, file)
    assert loaded.weight.dtype == torch.float32
    assert torch.equal(loaded.weight, saved.weight.half().float())


def test_misfits_are_named_and_nothing_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"weight": torch.zeros(2, 4), "other": torch.zeros(1)}, file)
    model = nn.Linear(3, 2)
    before = model.weight.clone()
    with pytest.raises(WeightsError) as caught:
        load_weights(model, file)
    message = str(caught.value)
    assert "weight is (2, 4) in the file and (2, 3) in the model" in message
    assert "bias is missing" in message
    assert "other is not in the model" in message
    assert "another architecture" in message
    assert torch.equal(model.weight, before)


def test_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.safetensors; copy or download it there"):
        load_weights(nn.Linear(1, 1), tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.bin"])
def test_foreign_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(WeightsError, match=r"w\."):
        load_weights(nn.Linear(1, 1), tmp_path / name)


def test_pickled_model_is_not_executed(tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"holds an object of torch\.nn\.modules\.linear\.Linear") as caught:
        load_weights(nn.Linear(1, 1), tmp_path / "w.pt")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("name", ["resnet20", "torchvision/resnet18", "resnet18", "timm/resnet10t", "resnet10t"])
def test_names_lead_to_networks(name: str) -> None:
    model = backbone(name, num_classes=5).eval()
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 5)


def test_cifar_networks_come_first() -> None:
    assert isinstance(backbone("resnet20"), CifarResNet)


def test_detectors_do_not_download_a_backbone(offline: None) -> None:
    assert isinstance(backbone("torchvision/ssdlite320_mobilenet_v3_large", num_classes=3), nn.Module)


def test_own_network_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_net_of_a_user.py").write_text(
        "from torch import nn\nclass Net(nn.Linear):\n    def __init__(self): super().__init__(3, 2)\nnothing = dict\n"
    )
    save_file(nn.Linear(3, 2).state_dict(), tmp_path / "w.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert isinstance(backbone("own_net_of_a_user.Net", weights="w.safetensors"), nn.Linear)
    with pytest.raises(ValueError, match="takes no num_classes"):
        backbone("own_net_of_a_user.Net", num_classes=3)
    with pytest.raises(ValueError, match="makes a dict"):
        backbone("own_net_of_a_user.nothing")
    with pytest.raises(ValueError, match=r"did you mean own_net_of_a_user\.Net "):
        backbone("own_net_of_a_user.Nett")


def test_own_networks_may_import_others_later_and_go_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_late_layers.py").write_text("from torch import nn\nLayer = nn.ReLU\n")
    (tmp_path / "own_late_net.py").write_text(
        "import os\nfrom torch import nn\nos.chdir('/')\n"
        "class Net(nn.Module):\n    def forward(self, x):\n"
        "        from own_late_layers import Layer\n        return Layer()(x)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert backbone("own_late_net.Net")(torch.ones(1)).item() == 1


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnte50", "did you mean resnet50"),
        ("torchvision/resnet51", "did you mean resnet50"),
        ("timm/vit_tinny_patch16_224", "did you mean vit_tiny_patch16_224"),
        ("foo/bar", "use one of torchvision, timm, ultralytics"),
        ("no_such_package.Net", "cannot import"),
    ],
)
def test_unknown_names_get_a_hint(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        backbone(name)


@pytest.mark.parametrize(
    ("name", "weights", "reason"),
    [
        ("resnet18", "DEFAULT", r"cannot download https://download\.pytorch\.org/.* local file"),
        (
            "torchvision/deeplabv3_resnet50",
            "COCO_WITH_VOC_LABELS_V1",
            r"cannot download https://download\.pytorch\.org/.*deeplab.* local file",
        ),
        ("timm/resnet10t", "pretrained", r"cannot download https://huggingface\.co/.* local file"),
        ("resnet18", "IMAGENET1K_V9", "use IMAGENET1K_V1, DEFAULT or a local file"),
        ("timm/resnet10t", "nonsense", "its tags: c3_in1k"),
    ],
)
def test_weights_that_cannot_be_had(offline: None, name: str, weights: str, reason: str) -> None:
    start = time.monotonic()
    with pytest.raises(WeightsError, match=reason):
        backbone(name, weights)
    assert time.monotonic() - start < 5


def test_other_number_of_classes_renews_only_the_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    published = backbone("torchvision/mobilenet_v3_small")
    monkeypatch.setattr(module, "_downloaded", lambda *_: published)
    before = {key: value.clone() for key, value in published.state_dict().items()}
    model = backbone("torchvision/mobilenet_v3_small", "DEFAULT", num_classes=4)
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"classifier.3.weight", "classifier.3.bias"}
    assert model.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 4)


@pytest.mark.parametrize("name", ["resnet18", "timm/resnet10t"])
@pytest.mark.parametrize("weights", ["pretrained", "DEFAULT"])
def test_folders_in_the_working_directory_are_no_weights(
    offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, weights: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(weights).mkdir()
    with pytest.raises(WeightsError, match=r"cannot download|has no weights"):
        backbone(name, weights)


@pytest.mark.filterwarnings("default")  # ultralytics and what it imports
def test_ultralytics(offline: None) -> None:
    pytest.importorskip("ultralytics")
    assert backbone("ultralytics/yolov8n", num_classes=3).yaml["nc"] == 3  # type: ignore[index]
    with pytest.raises(ValueError, match="did you mean yolov"):
        backbone("ultralytics/yolov99n")
    with pytest.raises(WeightsError, match=r"cannot download .*yolov8n\.pt"):
        backbone("ultralytics/yolov8n", "pretrained")
    with pytest.raises(WeightsError, match="use 'pretrained' or a local file"):
        backbone("ultralytics/yolov8n", "DEFAULT")


def run() -> None:
    Path("ran").touch()


class Stranger:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return run, ()


@pytest.mark.filterwarnings("default")  # ultralytics and what it imports
def test_ultralytics_takes_nothing_from_the_working_directory(
    offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ultralytics")
    monkeypatch.chdir(tmp_path)
    for name in ("yolov8n.yaml", "yolov8.yaml"):
        Path(name).write_text("activation: __import__('pathlib').Path('ran').touch()\nnc: 9\nbackbone: []\nhead: []\n")
    torch.save({"model": Stranger()}, "yolov8n.pt")
    assert backbone("ultralytics/yolov8n").yaml["nc"] == 80  # type: ignore[index]
    with pytest.raises(WeightsError, match=r"cannot download .*yolov8n\.pt"):
        backbone("ultralytics/yolov8n", "pretrained")
    with pytest.raises(ValueError, match="there is no network named"):
        backbone(f"ultralytics/{tmp_path}/yolov8n")
    assert not Path("ran").exists()


@pytest.mark.filterwarnings("default")  # ultralytics and what it imports
def test_published_weights_of_ultralytics_are_read_as_data(
    offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ultralytics")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / "yolov8n.pt"
    file.parent.mkdir()
    saved = backbone("ultralytics/yolov8n")
    torch.save({"model": copy.deepcopy(saved).half(), "ema": None, "stranger": Stranger(), "folder": tmp_path}, file)
    loaded = backbone("ultralytics/yolov8n", "pretrained").state_dict()
    assert all(torch.equal(loaded[name], tensor.half().float()) for name, tensor in saved.float().state_dict().items())
    fewer = backbone("ultralytics/yolov8n", "pretrained", num_classes=3).state_dict()
    assert torch.equal(fewer["model.0.conv.weight"], loaded["model.0.conv.weight"])
    for stranger, reason in ((Stranger(), "is missing"), (backbone("ultralytics/yolov8s"), "in the model")):
        torch.save({"model": stranger}, file)
        with pytest.raises(WeightsError, match=rf"yolov8n\.pt .*{reason}.*safetensors"):
            backbone("ultralytics/yolov8n", "pretrained")
    assert not Path("ran").exists()


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_same_padding_puts_the_odd_pixel_right_and_below(kernel: int) -> None:
    conv = nn.Conv2d(1, 1, kernel, stride=2, padding=kernel // 2, bias=False)
    model = same_padding(nn.Sequential(conv, nn.Conv2d(1, 1, 3, padding=1)))
    images = torch.rand(1, 1, 8, 8)
    before = (kernel - 2) // 2
    after = kernel - 2 - before
    expected = nn.functional.conv2d(nn.functional.pad(images, (before, after, before, after)), conv.weight, stride=2)
    assert torch.equal(model[0](images), expected)  # type: ignore[index]
    assert type(model[1]) is nn.Conv2d  # type: ignore[index]


def test_mobilenet_with_same_padding_keeps_keys_and_traces() -> None:
    model = mobilenet_v2_same(num_classes=5).eval()
    plain = backbone("torchvision/mobilenet_v2", num_classes=5)
    assert model.state_dict().keys() == plain.state_dict().keys()
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(fx.symbolic_trace(model)(images), model(images))


def test_mobilenet_with_same_padding_on_imagenet(shared_data: Path) -> None:
    model = mobilenet_v2_same(shared_data / "weights" / "mobilenet_v2_imagenet.safetensors").eval()
    view = v2.Compose(
        [
            v2.Resize(256),
            v2.CenterCrop(224),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    with zipfile.ZipFile(shared_data / "imagenet_sample500.zip") as archive:
        rows = list(csv.DictReader(archive.read("labels.csv").decode().splitlines()))[::10]
        images = [view(Image.open(archive.open(row["file"])).convert("RGB")) for row in rows]
    with torch.inference_mode():
        predicted = torch.cat([model(batch).argmax(1) for batch in torch.stack(images).chunk(5)])
    hits = sum(int(p) == int(row["class_index"]) for p, row in zip(predicted, rows, strict=True))
    assert hits >= 0.8 * len(rows)
