"""Models without Lightning: networks cut in two, bottlenecks, and complete compression models."""

from splitlearn.codecs import ImageCodec, ImageFile, Pixels, VideoCodec
from splitlearn.models.bottlenecks.bottleneck import (
    Bottleneck,
    BottleneckFactory,
    DepthwiseSeparable,
    Identity,
    NormalizedSeparable,
)
from splitlearn.models.bottlenecks.pixels import PixelBottleneckFactory, PixelEncoder
from splitlearn.models.bottlenecks.redesigned_layer import RedesignedLayer1, replaced
from splitlearn.models.bottlenecks.residual import ResidualBottleneck
from splitlearn.models.coder import FeatureCoder
from splitlearn.models.complexity import Complexity, count_macs
from splitlearn.models.cutting import (
    CutError,
    PixelSplit,
    Split,
    check_name,
    crossing_shapes,
    crossing_tensors,
    from_pixels,
    legal_cuts,
    split,
)
from splitlearn.models.folding import fold_norms, unfold_norms
from splitlearn.models.freeze import freeze, frozen_except, frozen_modules, frozen_tensors, thaw
from splitlearn.models.images import Normalize, one_size
from splitlearn.models.networks.backbone import backbone, mobilenet_v2_same
from splitlearn.models.networks.box_decoder import BoxDecoder
from splitlearn.models.networks.detectors import faster_rcnn, keypoint_rcnn, mask_rcnn
from splitlearn.models.networks.mobilenet_cifar import CifarMobileNetV2, mobilenet_v2_cifar
from splitlearn.models.networks.resnet_cifar import CifarResNet, resnet8, resnet20, resnet32, resnet44, resnet56
from splitlearn.models.networks.same_padding import same_padding
from splitlearn.models.networks.torchvision_boxes import TorchvisionBoxes
from splitlearn.models.networks.vgg_cifar import CifarVgg, vgg19_cifar
from splitlearn.models.networks.weights import WeightsError, load_weights
from splitlearn.models.networks.yolo import YoloBoxes
from splitlearn.models.pipelines.base import CompressionModel
from splitlearn.models.pipelines.confidence import (
    Confidence,
    LowEntropy,
    Margin,
    MaximumSoftmax,
    calibration_error,
    fit_temperature,
)
from splitlearn.models.pipelines.cut_model import CoderModel, CutModel, OperatingPoint, rename_former_keys
from splitlearn.models.pipelines.early_exit import EarlyExitModel
from splitlearn.models.pipelines.exit_branch import BranchFactory, ExitBranch
from splitlearn.models.pipelines.gain_model import GainModel
from splitlearn.models.pipelines.input_model import InputModel
from splitlearn.models.pipelines.int8 import Int8, Int8Error, to_int8
from splitlearn.models.pipelines.pixel_model import PixelModel
from splitlearn.models.pipelines.pixel_video import PixelVideo
from splitlearn.models.pipelines.split_model import SplitModel
from splitlearn.models.pipelines.tiled_model import TiledFeatures
from splitlearn.models.pipelines.tiled_video import TiledVideo
from splitlearn.models.pipelines.unfrozen_split_model import UnfrozenSplitModel
from splitlearn.models.pipelines.variable_rate import VariableRateModel
from splitlearn.models.pipelines.video_model import FrameReceiver, FrameSender, SentFrame, StreamModel, VideoModel
from splitlearn.models.pretrained import from_pretrained

__all__ = [
    "Bottleneck",
    "BottleneckFactory",
    "BoxDecoder",
    "BranchFactory",
    "CifarMobileNetV2",
    "CifarResNet",
    "CifarVgg",
    "CoderModel",
    "Complexity",
    "CompressionModel",
    "Confidence",
    "CutError",
    "CutModel",
    "DepthwiseSeparable",
    "EarlyExitModel",
    "ExitBranch",
    "FeatureCoder",
    "FrameReceiver",
    "FrameSender",
    "GainModel",
    "Identity",
    "ImageCodec",
    "ImageFile",
    "InputModel",
    "Int8",
    "Int8Error",
    "LowEntropy",
    "Margin",
    "MaximumSoftmax",
    "Normalize",
    "NormalizedSeparable",
    "OperatingPoint",
    "PixelBottleneckFactory",
    "PixelEncoder",
    "PixelModel",
    "PixelSplit",
    "PixelVideo",
    "Pixels",
    "RedesignedLayer1",
    "ResidualBottleneck",
    "SentFrame",
    "Split",
    "SplitModel",
    "StreamModel",
    "TiledFeatures",
    "TiledVideo",
    "TorchvisionBoxes",
    "UnfrozenSplitModel",
    "VariableRateModel",
    "VideoCodec",
    "VideoModel",
    "WeightsError",
    "YoloBoxes",
    "backbone",
    "calibration_error",
    "check_name",
    "count_macs",
    "crossing_shapes",
    "crossing_tensors",
    "faster_rcnn",
    "fit_temperature",
    "fold_norms",
    "freeze",
    "from_pixels",
    "from_pretrained",
    "frozen_except",
    "frozen_modules",
    "frozen_tensors",
    "keypoint_rcnn",
    "legal_cuts",
    "load_weights",
    "mask_rcnn",
    "mobilenet_v2_cifar",
    "mobilenet_v2_same",
    "one_size",
    "rename_former_keys",
    "replaced",
    "resnet8",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "same_padding",
    "split",
    "thaw",
    "to_int8",
    "unfold_norms",
    "vgg19_cifar",
]
