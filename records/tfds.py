"""What TensorFlow Datasets needs to read a records folder with `tfds.builder_from_directory(folder)`.

Its two files are plain JSON, so they are written without it. Their form was taken from what TensorFlow Datasets 4.9
writes itself; tests read a folder with it.
"""

import json
from typing import Any

from records.info import RecordsInfo
from records.schema import FEATURES

FEATURES_FILE = "features.json"
DATASET_INFO_FILE = "dataset_info.json"

_MODULE = "tensorflow_datasets.core.features"


def features_json(info: RecordsInfo, keys: set[str]) -> str:
    """Returns the text of features.json for records that have these keys."""
    tree: dict[str, Any] = {}
    for key in FEATURES:
        if key in keys:
            *parents, leaf = key.split("/")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = _feature(key, info)
    content = _features_dict(tree) | {"proto_cls": "tensorflow_datasets.FeaturesDict"}
    content["content"] = content.pop("featuresDict")
    content["type"] = content.pop("pythonClassName")
    return json.dumps(content, indent=2)


def dataset_info_json(info: RecordsInfo) -> str:
    """Returns the text of dataset_info.json."""
    content = {
        "name": info.name,
        "version": "1.0.0",
        "fileFormat": "tfrecord",
        "description": f"Segmentation records: {', '.join(info.classes)}.",
        "splits": [
            {
                "name": name,
                "shardLengths": [str(length) for length in split.shard_lengths],
                "numBytes": str(sum(split.shard_bytes)),
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
            for name, split in info.splits.items()
            if split.num_examples
        ],
    }
    return json.dumps(content, indent=2)


def _feature(key: str, info: RecordsInfo) -> dict[str, Any]:
    images = {
        "image/encoded": (info.channels, info.dtype),
        "image/segmentation/class/encoded": (1, "uint16" if info.overlapping else "uint8"),
        "image/segmentation/instance/encoded": (1, "uint16"),
    }
    if info.coding == "raw":
        del images["image/encoded"]  # no image file: TensorFlow Datasets hands the bytes on as they are
    if key in images:
        channels, dtype = images[key]
        shape = {"dimensions": ["-1", "-1", str(channels)]}
        return {"pythonClassName": f"{_MODULE}.image_feature.Image", "image": {"shape": shape, "dtype": dtype}}
    spec = FEATURES[key]
    if spec.kind == "bytes":
        return {"pythonClassName": f"{_MODULE}.text_feature.Text", "text": {}}
    shape = {"dimensions": [str(size) for size in spec.shape]} if spec.shape else {}
    kind = "tensor_feature.Tensor" if spec.shape else "scalar.Scalar"
    dtype = {"int64": "int64", "float": "float32"}[spec.kind]
    return {
        "pythonClassName": f"{_MODULE}.{kind}",
        "tensor": {"shape": shape, "dtype": dtype, "encoding": "none"},
    }


def _features_dict(tree: dict[str, Any]) -> dict[str, Any]:
    features = {name: node if "pythonClassName" in node else _features_dict(node) for name, node in tree.items()}
    return {
        "pythonClassName": f"{_MODULE}.features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }
