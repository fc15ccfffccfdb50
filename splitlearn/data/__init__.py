"""LightningDataModules of images for training and testing."""

from splitlearn.data.base import ImageDataModule
from splitlearn.data.cifar import Cifar10
from splitlearn.data.detection import CocoDetection, DetectionDataModule, YoloDetection
from splitlearn.data.digits import Digits
from splitlearn.data.feature_cache import CachedFeatures, CacheInfo, cache_features
from splitlearn.data.folder import ImageFolder
from splitlearn.data.imagenet import ImageNet, LabelledImages
from splitlearn.data.images import DataError, read_photos
from splitlearn.data.objects import CocoObjects, ObjectsDataModule, PennFudan, YoloObjects
from splitlearn.data.photos import LetterboxPhotos, Photos
from splitlearn.data.segmentation import FolderSegmentation, SegmentationDataModule, VocSegmentation
from splitlearn.data.transforms import CropFlip
from splitlearn.data.video import VideoError, read_video, video_frames
from splitlearn.data.videos import LetterboxVideos, Videos, video_batches

__all__ = [
    "CacheInfo",
    "CachedFeatures",
    "Cifar10",
    "CocoDetection",
    "CocoObjects",
    "CropFlip",
    "DataError",
    "DetectionDataModule",
    "Digits",
    "FolderSegmentation",
    "ImageDataModule",
    "ImageFolder",
    "ImageNet",
    "LabelledImages",
    "LetterboxPhotos",
    "LetterboxVideos",
    "ObjectsDataModule",
    "PennFudan",
    "Photos",
    "SegmentationDataModule",
    "VideoError",
    "Videos",
    "VocSegmentation",
    "YoloDetection",
    "YoloObjects",
    "cache_features",
    "read_photos",
    "read_video",
    "video_batches",
    "video_frames",
]
