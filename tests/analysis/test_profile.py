"""Profiles against published figures, and that profiling leaves no trace."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import resnet50, resnet152, vgg16
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.models.segmentation import deeplabv3_resnet50
from torchvision.models.vision_transformer import VisionTransformer

from splitlearn.analysis import ModuleProfile, core_modules, profile_model
from splitlearn.commands.profile import profile
from splitlearn.models import CutError, backbone, count_macs, crossing_shapes, keypoint_rcnn, mask_rcnn, resnet20, split

IMAGE = (3, 224, 224)


def by_name(profiles: list[ModuleProfile]) -> dict[str, ModuleProfile]:
    return {profile.name: profile for profile in profiles}


def kilobytes(profile: ModuleProfile) -> float:
    return profile.output_size * 4 / 1024


@pytest.fixture(scope="module")
def resnet50_profile() -> list[ModuleProfile]:
    stages = ["conv1", "maxpool", "layer1.0", "layer1", "layer2.0", "layer2", "layer3", "layer4", "fc"]
    with torch.device("meta"):  # drawing weights takes seconds
        return profile_model(resnet50(), IMAGE, at=stages)


@pytest.mark.slow
def test_totals_of_resnet50(resnet50_profile: list[ModuleProfile]) -> None:
    last = resnet50_profile[-1]
    assert last.name == "fc"
    assert last.cumulative_macs == pytest.approx(4.089e9, rel=0.01)
    assert last.cumulative_parameters == 25_557_032
    macs = [profile.cumulative_macs for profile in resnet50_profile]
    assert macs == sorted(macs)


@pytest.mark.slow
def test_output_sizes_of_resnet50(resnet50_profile: list[ModuleProfile]) -> None:
    """Table I of Carra & Neglia 2023, in kB of 1024 bytes, as floats."""
    profiles = by_name(resnet50_profile)
    assert kilobytes(profiles["maxpool"]) == 784.0
    assert kilobytes(profiles["layer2.0"]) == 1568.0
    assert profiles["layer2.0"].output_shape == (512, 28, 28)
    assert profiles["maxpool"].relative_size == pytest.approx(784 / 588)


def test_tensors_that_would_cross(resnet50_profile: list[ModuleProfile]) -> None:
    image = torch.zeros(1, *IMAGE, device="meta")
    inside = crossing_shapes(resnet50().to("meta").eval(), "layer1.0.conv1", image)
    assert inside == [(64, 56, 56), (64, 56, 56)]  # the shortcut goes around it
    profile = by_name(resnet50_profile)["layer1.0"]
    assert profile.crossing_tensors == 1
    assert profile.relative_crossing == profile.relative_size


def test_splits_of_deeplab() -> None:
    """Datta et al. 2022, Tables II and III: 74.32, 60.99, 49.83 and 23.43 % of the work, by their count of it."""
    with torch.device("meta"):
        network = deeplabv3_resnet50(weights=None, weights_backbone=None)
    names = ["classifier.0.convs.1", "backbone.layer4.2", "backbone.layer4.1", "backbone.layer3.5"]
    profiles = by_name(profile_model(network, (3, 513, 513), at=names))
    assert list(profiles) == names[::-1]  # in the order in which they run
    shares = [100 * profiles[name].relative_macs for name in names]
    assert shares == pytest.approx([74.32, 60.99, 49.83, 23.43], abs=0.3)
    assert [profiles[name].crossing_tensors for name in names] == [2, 1, 1, 1]
    total = profiles[names[1]].cumulative_macs / profiles[names[1]].relative_macs
    assert total == pytest.approx(168.65e9, rel=1e-3)
    assert profiles[names[1]].cumulative_parameters == 23_508_032
    auxiliary = 1024 * 256 * 9 + 2 * 256 + 256 * 21 + 21  # which the paper's 42.01 M count, and nothing else does
    assert sum(p.numel() for p in network.parameters()) + auxiliary == pytest.approx(42.01e6, rel=3e-4)


def test_modules_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile("resnet20", "3,32,32", out=tmp_path, depth=0, at="layer2.0.relu1,layer3")
    rows = list(csv.DictReader((tmp_path / "profile.csv").read_text().splitlines()))
    whole = by_name(profile_model(resnet20(), (3, 32, 32), depth=0))
    assert [row["name"] for row in rows] == ["layer2.0.relu1", "layer3"]
    assert [row["crossing_tensors"] for row in rows] == ["2", "1"]
    assert int(rows[1]["cumulative_macs"]) == whole["layer3"].cumulative_macs
    assert max(profile.relative_macs for profile in whole.values()) == 1
    assert f"{100 * whole['layer3'].relative_macs:.2f}" in capsys.readouterr().out
    with pytest.raises(CutError, match="no module 'layer4' in CifarResNet: did you mean layer"):
        profile_model(resnet20(), (3, 32, 32), at=["layer4"])
    with pytest.raises(ValueError, match="module 'idle' of Idle never runs: name one that does"):
        profile_model(Idle(), (3, 8, 8), at=["conv", "idle"])


class Idle(nn.Module):
    """Has a layer that it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.idle = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.conv(images)
        return features


class Around(nn.Module):
    """A shortcut around a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU())
        self.shortcut = nn.Conv2d(3, 6, 1, stride=2)

    def forward(self, images: Tensor) -> Tensor:
        total: Tensor = self.inner(images) + self.shortcut(images)
        return total


def test_what_goes_around_a_cut_is_counted() -> None:
    profiles = by_name(profile_model(Around(), (3, 8, 8)))
    assert list(profiles) == ["inner.0", "inner.1", "inner", "shortcut"]
    cut = profiles["inner"]
    assert (cut.output_size, cut.crossing_tensors) == (6 * 16, 2)
    assert cut.relative_crossing == pytest.approx((6 * 16 + 3 * 64) / 192)
    assert list(by_name(profile_model(Around(), (3, 8, 8), depth=0))) == ["inner", "shortcut"]


@pytest.mark.slow
def test_output_sizes_of_other_networks() -> None:
    """Table I of Carra & Neglia 2023; at the depth that `splitlearn profile` has by default."""
    with torch.device("meta"):  # drawing weights takes seconds
        vgg, deep = by_name(profile_model(vgg16(), IMAGE, depth=1)), resnet152().eval()
    assert kilobytes(vgg["features.9"]) == 1568.0
    assert kilobytes(vgg["features.16"]) == 784.0
    assert crossing_shapes(deep, "layer3.0", torch.zeros(1, *IMAGE, device="meta")) == [(1024, 14, 14)]
    assert 1024 * 14 * 14 * 4 / 1024 == 784.0
    assert "layer3.0" not in by_name(profile_model(deep, IMAGE, depth=0))


def test_parameters_add_up_in_the_order_in_which_layers_run() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    profiles = profile_model(model, (3, 8, 8))
    assert [p.name for p in profiles] == ["0", "1", "2", "3"]
    assert [p.kind for p in profiles] == ["Conv2d", "ReLU", "Flatten", "Linear"]
    assert [p.cumulative_parameters for p in profiles] == [112, 112, 112, 112 + 1450]
    assert [p.cumulative_macs for p in profiles] == [4 * 36 * 27] * 3 + [4 * 36 * 27 + 1440]
    assert [p.output_shape for p in profiles] == [(4, 6, 6), (4, 6, 6), (144,), (10,)]


class OwnWeights(nn.Module):
    """Parameters beside layers: a kernel and a token of its own, and one that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.kernel = nn.Parameter(torch.zeros(4, 8, 3, 3))
        self.token = nn.Parameter(torch.zeros(4, 1, 1))
        self.unused = nn.Parameter(torch.zeros(1000))
        self.act, self.head = nn.ReLU(), nn.Linear(4, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.act(nn.functional.conv2d(self.conv(images), self.kernel))
        logits: torch.Tensor = self.head((features + self.token).mean((2, 3)))
        return logits


def test_parameters_beside_layers_count_where_they_are_used() -> None:
    network = OwnWeights()
    found = {p.name: p.cumulative_parameters for p in profile_model(network, (3, 16, 16))}
    conv, head = 3 * 8 * 9 + 8, 4 * 5 + 5
    assert found["conv"] == conv
    assert found["act"] == conv + 4 * 8 * 9
    assert found["head"] == conv + 4 * 8 * 9 + 4 + head
    vit = torchvision_vit()
    halves = split(vit, "encoder.layers.encoder_layer_0", (3, 32, 32))
    (row,) = profile_model(vit, (3, 32, 32), at=["encoder.layers.encoder_layer_0"])
    assert row.cumulative_parameters == sum(p.numel() for p in halves.head.parameters())


def torchvision_vit() -> nn.Module:
    network: nn.Module = VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=10).eval()
    return network


def test_macs_of_a_convolution() -> None:
    assert count_macs(nn.Conv2d(3, 8, 3, padding=1), torch.zeros(1, 3, 10, 12)) == 8 * 10 * 12 * 27


def test_the_model_stays_as_it_was() -> None:
    model = resnet20().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    profile_model(model, (3, 32, 32), depth=0)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_wrong_shapes_are_told() -> None:
    with pytest.raises(ValueError, match=r"CifarResNet does not take images of shape \(1, 32, 32\): .*channels"):
        profile_model(resnet20(), (1, 32, 32))


class NeedsValues(nn.Module):
    """Looks at its input, which the meta device does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.conv(images)
        return features if float(images.max()) < 1 else features * 2


def test_networks_that_look_at_values_run_on_the_cpu() -> None:
    (profile,) = profile_model(NeedsValues(), (3, 8, 8))
    assert profile.cumulative_macs == 4 * 36 * 27
    assert profile.crossing_tensors is None
    assert profile.relative_crossing is None


class NeedsBuffers(nn.Module):
    """Looks at a buffer of its own, as YOLO does at its strides."""

    factor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("factor", torch.tensor(2.0))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.conv(images)
        return features.new_full(features.shape, self.factor.item()) * features


def test_networks_that_look_at_buffers_need_no_arithmetic() -> None:
    (profile,) = profile_model(NeedsBuffers(), (3, 40_000, 40_000))  # a batch of features would take 76 GB
    assert profile.output_shape == (4, 39_998, 39_998)
    assert profile.crossing_tensors == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "macs", "parameters"),
    [("faster_rcnn/resnet50", 134.38e9, 41.755286e6), ("mask_rcnn/resnet50", None, 44.401393e6)],
)
def test_detectors_of_the_paper_at_full_size(name: str, macs: float | None, parameters: float) -> None:
    """Matsubara & Levorato 2020, Figs. 2 to 4; totals are those that torchvision publishes."""
    with torch.device("meta"):
        detector = backbone(name)
    profiles = by_name(profile_model(detector, (3, 800, 800), at=core_modules(detector)))
    layers = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    assert list(profiles) == [*(f"backbone.body.{layer}" for layer in layers), "backbone.fpn", "rpn", "roi_heads", ""]
    sizes = [profiles[f"backbone.body.{layer}"].relative_size for layer in layers]
    assert sizes == pytest.approx([16 / 3, 16 / 3, 16 / 3, 4 / 3, 16 / 3, 8 / 3, 4 / 3, 2 / 3])
    crossing = [profiles[f"backbone.body.layer{n}"].crossing_tensors for n in (1, 2, 3, 4)]
    assert crossing == [1, 2, 3, 4]  # the image's sizes cross too, but are no features
    whole = profiles[""]
    if macs is not None:
        assert whole.cumulative_macs == pytest.approx(macs, rel=1e-4)
    trained_norms = 53_120  # which torchvision's published detectors hold as constants
    assert whole.cumulative_parameters == parameters + trained_norms
    assert profiles["rpn"].output_shape == (1000, 4)
    masks = 100 * 28 * 28 if name.startswith("mask") else 0
    assert profiles["roi_heads"].output_size == 100 * (4 + 1 + 1) + masks
    assert (whole.relative_size > 30) == name.startswith("mask")  # 100 masks of the whole image


@pytest.mark.parametrize("kind", ["mask", "keypoint"])
def test_a_detectors_figures_are_those_of_a_real_image(kind: str) -> None:
    build = {"mask": mask_rcnn, "keypoint": keypoint_rcnn}[kind]
    detector = build("resnet18", num_classes=3, pyramid=16, box_width=32)
    detector.get_submodule("roi_heads").score_thresh = 0.0  # type: ignore[assignment]
    detector.get_submodule("transform").min_size = (64,)  # type: ignore[assignment]
    detector.get_submodule("rpn")._post_nms_top_n = {"training": 2, "testing": 2}  # type: ignore[assignment]
    detector.get_submodule("roi_heads").detections_per_img = 1  # type: ignore[assignment]
    image = torch.rand(1, 3, 64, 96)
    (found,) = detector.eval()(image)
    profiles = by_name(profile_model(detector, (3, 64, 96), at=["roi_heads.box_predictor", ""]))
    assert profiles["roi_heads.box_predictor"].output_size == 2 * (3 + 12)
    assert profiles[""].output_size == sum(t.numel() for t in found.values())
    assert profiles[""].cumulative_macs == count_macs(detector, image)


@pytest.mark.slow
def test_joints_are_profiled_without_arithmetic_whatever_the_weights() -> None:
    devices: list[str] = []
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        detector = keypoint_rcnn("resnet18", pyramid=16, box_width=32)
        maps = detector.get_submodule("roi_heads.keypoint_predictor")
        maps.register_forward_hook(lambda *call: devices.append(call[-1].device.type))
        found.append(profile_model(detector, (3, 128, 128), at=["backbone.body.layer2", "roi_heads", ""]))
    assert set(devices) == {"meta"}
    assert found[0] == found[1]
    joints = 100 * (17 * 3 + 17)  # of as many persons as there can be: places, and how sure each is
    assert by_name(found[0])["roi_heads"].output_size == 100 * (4 + 1 + 1) + joints


@pytest.mark.slow
def test_detectors() -> None:
    with torch.device("meta"):
        detector = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=64, max_size=64, num_classes=2)
    profiles = by_name(profile_model(detector, (3, 64, 64), depth=2))
    layer = profiles["backbone.body.layer1"]
    assert layer.output_shape == (256, 16, 16)
    assert layer.crossing_tensors == 1
    assert layer.relative_crossing == (256 * 16 * 16 + 6) / (3 * 64 * 64)  # six sizes of the image cross too
    assert profiles["roi_heads.box_head"].cumulative_macs > layer.cumulative_macs > 0


def test_command_writes_table_file_and_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile("resnet20", "3,32,32", out=tmp_path / "new", depth=0)
    rows = list(csv.DictReader((tmp_path / "new" / "profile.csv").read_text().splitlines()))
    assert [row["name"] for row in rows][:3] == ["conv1", "bn1", "relu"]
    (last,) = profile_model(resnet20(), (3, 32, 32), at=["linear"])
    assert int(rows[-1]["cumulative_macs"]) == last.cumulative_macs
    assert rows[-1]["output_shape"] == "10"
    with Image.open(tmp_path / "new" / "profile.png") as plot:
        assert plot.format == "PNG"
        assert min(plot.size) > 300
    printed = capsys.readouterr().out
    assert "sizes of the image" not in printed
    assert "resnet20, input 3×32×32: 12.0 kB" in printed
    assert "layer2" in printed
    assert "modules inside those of the table: --depth 1" in printed
    assert "profile.csv" in printed
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"profile.csv", "profile.png"}


@pytest.mark.slow
def test_command_prints_every_figure_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of Table I, where the input has 588.0 kB; and nothing lies deeper in VGG16."""
    with torch.device("meta"):
        profile("torchvision/vgg16", out=tmp_path, depth=1)
    printed = capsys.readouterr().out
    assert "torchvision/vgg16, input 3×224×224: 588.0 kB" in printed
    (row,) = [line for line in printed.splitlines() if "features.16 " in line]
    assert "784.0" in row
    assert "15,470.3" in printed
    assert "…" not in printed
    assert "--depth" not in printed


@pytest.mark.slow
def test_core_modules_of_a_detector_are_shown_with_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with torch.device("meta"):
        profile("faster_rcnn/resnet18", "3,800,800", out=tmp_path)
    rows = list(csv.DictReader((tmp_path / "profile.csv").read_text().splitlines()))
    assert [row["name"] for row in rows][-4:] == ["backbone.fpn", "rpn", "roi_heads", "(output)"]
    printed = capsys.readouterr().out
    assert (
        "none of these cuts sends less than the input: the nearest is backbone.body.maxpool (1.33 of its elements"
        in printed
    )
    assert "across × input: elements of all that it sends, six sizes of the image among them" in printed
    assert "behind backbone.body.layer1 the network branches" in printed
    assert "2 tensors cross at backbone.body.layer2 in place of 1" in printed
    assert "a bottleneck belongs before the end of backbone.body.layer1" in printed


def test_advice_on_named_modules_speaks_of_no_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of ResNet-18's cuts, layer1 sends 1.33 of the input and layer2 0.67."""
    with torch.device("meta"):
        profile("torchvision/resnet18", out=tmp_path, at="relu,layer1")
    printed = capsys.readouterr().out
    assert "none of these cuts sends less than the input: the nearest is layer1 (1.33 of its elements" in printed
    assert "of those that are not shown, layer2 (0.67 of its elements, behind 54.7 % of the work) does" in printed
    # a map of 112×112 in 3×224×224 elements
    assert (
        "with a bottleneck a cut sends less from relu on, behind 6.5 % of the work: there, with 11 of 64 ch" in printed
    )


def test_a_network_without_modules_is_told() -> None:
    with pytest.raises(CutError, match="Conv2d has no modules inside, and so no cut"):
        profile_model(nn.Conv2d(3, 4, 3), (3, 8, 8), at=["layer1"])
