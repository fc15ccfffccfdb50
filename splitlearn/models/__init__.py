"""Networks that run without Lightning: any model cut in two, bottlenecks, and the composed line."""

from splitlearn.models.backbone import backbone, mobilenet_v2_same
from splitlearn.models.base import CompressionModel, Normalize
from splitlearn.models.bottleneck import (
    Bottleneck,
    BottleneckFactory,
    DepthwiseSeparable,
    Identity,
    NormalizedSeparable,
)
from splitlearn.models.box_decoder import BoxDecoder
from splitlearn.models.coder import FeatureCoder, renamed
from splitlearn.models.confidence import (
    Confidence,
    LowEntropy,
    Margin,
    MaximumSoftmax,
    calibration_error,
    fit_temperature,
)
from splitlearn.models.cut_model import CutModel
from splitlearn.models.cutting import (
    CutError,
    Split,
    check_name,
    crossing_shapes,
    crossing_tensors,
    legal_cuts,
    split,
)
from splitlearn.models.detectors import faster_rcnn, keypoint_rcnn, mask_rcnn
from splitlearn.models.early_exit import EarlyExitModel
from splitlearn.models.exit_branch import BranchFactory, ExitBranch
from splitlearn.models.freeze import freeze, frozen_modules, frozen_tensors, thaw
from splitlearn.models.image_codec import ImageCodec, ImageFile, Pixels
from splitlearn.models.images import one_size
from splitlearn.models.input_model import InputModel
from splitlearn.models.int8 import Int8, Int8Error, to_int8
from splitlearn.models.mobilenet_cifar import CifarMobileNetV2, mobilenet_v2_cifar
from splitlearn.models.redesigned_layer import RedesignedLayer1, replaced
from splitlearn.models.resnet_cifar import CifarResNet, resnet8, resnet20, resnet32, resnet44, resnet56
from splitlearn.models.same_padding import same_padding
from splitlearn.models.split_model import SplitModel
from splitlearn.models.tiled_model import TiledFeatures
from splitlearn.models.torchvision_boxes import TorchvisionBoxes
from splitlearn.models.unfrozen_split_model import UnfrozenSplitModel
from splitlearn.models.variable_rate import BudgetError, RatePoint, VariableRateModel
from splitlearn.models.vgg_cifar import CifarVgg, vgg19_cifar
from splitlearn.models.weights import WeightsError, load_weights
from splitlearn.models.yolo import YoloBoxes

__all__ = [
    "Bottleneck",
    "BottleneckFactory",
    "BoxDecoder",
    "BranchFactory",
    "BudgetError",
    "CifarMobileNetV2",
    "CifarResNet",
    "CifarVgg",
    "CompressionModel",
    "Confidence",
    "CutError",
    "CutModel",
    "DepthwiseSeparable",
    "EarlyExitModel",
    "ExitBranch",
    "FeatureCoder",
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
    "Pixels",
    "RatePoint",
    "RedesignedLayer1",
    "Split",
    "SplitModel",
    "TiledFeatures",
    "TorchvisionBoxes",
    "UnfrozenSplitModel",
    "VariableRateModel",
    "WeightsError",
    "YoloBoxes",
    "backbone",
    "calibration_error",
    "check_name",
    "crossing_shapes",
    "crossing_tensors",
    "faster_rcnn",
    "fit_temperature",
    "freeze",
    "frozen_modules",
    "frozen_tensors",
    "keypoint_rcnn",
    "legal_cuts",
    "load_weights",
    "mask_rcnn",
    "mobilenet_v2_cifar",
    "mobilenet_v2_same",
    "one_size",
    "renamed",
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
    "vgg19_cifar",
]
