"""What a run's network answers, what is scored of it, and what the scores are called."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import tensorflow as tf

from model.classifier import CLASSIFIER_LABELS, has_object
from model.labels import Labels
from records.info import RecordsInfo
from training.config import TrainConfig

_OVERLAPS = ("dice_per_image", "dice_nonempty", "dice_pooled", "iou_per_image", "iou_nonempty", "iou_pooled")

Target = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


@dataclass(frozen=True)
class Task:
    """One of the tasks of `TrainConfig.task`, for records.

    Attributes:
      labels: what targets and logits mean.
      classes: of these labels, those that are scored.
      target: masks [batch, height, width] -> (what logits are compared with, float32 [batch]: 0 where that is not known
        of an example, so that it counts in no score).
      scores: what the results of `Overlap` are called.
      shown: those of an epoch's line by their short names.
      monitored: name of the score of validation that decides which epoch is best; higher is better.
      title: its name in words.
    """

    labels: Labels
    classes: list[int]
    target: Target
    scores: Mapping[str, str]
    shown: Mapping[str, str]
    monitored: str
    title: str

    def name_scores(self, results: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
        """Returns the results of `Overlap` under their names in the history, behind a prefix."""
        return {f"{prefix}{name}": float(results[key]) for key, name in self.scores.items()}

    def describe_scores(self, row: Mapping[str, float], prefix: str = "") -> str:
        """Returns the scores of an epoch's line, of names with a prefix, in words."""
        return "  ".join(f"{short} {row[prefix + name]:.4f}" for short, name in self.shown.items())


def make_task(config: TrainConfig, info: RecordsInfo) -> Task:
    """Returns the task of a run."""
    labels = Labels(len(info.classes), info.overlapping)
    monitored, _ = config.monitored
    if config.task == "segment":
        return Task(
            labels,
            info.scored_classes,
            lambda masks: (masks, tf.ones(tf.shape(masks)[:1])),
            {name: name for name in _OVERLAPS},
            {"dice": "dice_per_image", "iou": "iou_per_image"},
            monitored,
            "Dice per image",
        )
    # Of single answers Dice per image is the share of right ones, and pooled Dice is F1.
    scores = {"dice_per_image": "accuracy", "dice_pooled": "f1"}
    target = partial(_classifier_target, labels, info.scored_classes)
    return Task(CLASSIFIER_LABELS, [1], target, scores, {"f1": "f1", "accuracy": "accuracy"}, monitored, "F1")


def check_classifier(config: TrainConfig, info: RecordsInfo, split: str) -> None:
    """Raises ValueError if a classifier's records tell it nothing.

    In none of them an object could be missing; or the validation split holds no object, or nothing but images with
    objects: F1 would be 0 for ever, or highest for one that always says yes. Crops of images with objects may be empty.
    """
    if config.task != "classify":
        return
    if 0 in info.scored_classes and not info.overlapping:
        raise ValueError(
            f"task: expected a background for --task classify, found the classes {', '.join(info.classes)}, of which "
            "every pixel holds one; call the first one background when preprocessing"
        )
    total = info.splits[split].num_examples
    counts = [info.splits[split].class_examples[number] for number in info.scored_classes]
    if not any(counts) or (max(counts) == total and config.input.crop is None):
        raise ValueError(
            f"task: expected images with and without objects in split {split}, which validates --task classify, found "
            f"{max(counts)} of {total} with one; preprocess with --splits.stratify, or with larger splits"
        )


def _classifier_target(labels: Labels, classes: list[int], masks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    answers = has_object(labels, masks, classes)
    return answers, tf.cast(CLASSIFIER_LABELS.valid(answers)[:, 0, 0], tf.float32)
