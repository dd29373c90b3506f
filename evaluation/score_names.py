"""What scores are called, and what they mean: the same wherever a person reads them."""

from typing import NamedTuple


class Score(NamedTuple):
    """What a score is called, what it means, and its kind.

    A share lies between 0 and 1, higher being better; of a distance the unit is `distance_unit` of metrics.json.
    """

    label: str
    meaning: str
    is_share: bool = True
    is_distance: bool = False


# In the order in which they matter. The first that an evaluation has is the one that a report speaks of.
SCORES = {
    "dice_per_image": Score("Dice per image", "overlap of prediction and truth, mean over images"),
    "accuracy": Score("accuracy", "share of right answers"),
    "dice_nonempty": Score("Dice, non-empty images", "without images where truth and prediction are both empty"),
    "dice_pooled": Score("Dice, pooled", "pixels of all images together: large objects weigh most"),
    "volume_dice": Score("Dice per volume", "slices of a group put together, mean over volumes"),
    "object_f1": Score("F1 of objects", "mean over IoU thresholds 0.5 to 0.95"),
    "object_f2": Score("F2 of objects", "misses weigh more; mean over IoU thresholds 0.5 to 0.95"),
    "object_map": Score(
        "mean average precision", "TP / (TP + FP + FN) of objects, mean over IoU thresholds 0.5 to 0.95"
    ),
    "object_precision": Score("precision of objects", "share of found objects that are true"),
    "object_recall": Score("recall of objects", "share of true objects that are found"),
    "iou_per_image": Score("IoU per image", "stricter than Dice: intersection over union"),
    "iou_nonempty": Score("IoU, non-empty images", "without images where truth and prediction are both empty"),
    "iou_pooled": Score("IoU, pooled", "pixels of all images together"),
    "volume_iou": Score("IoU per volume", "slices of a group put together, mean over volumes"),
    "precision": Score("precision", "share of what was found that is true"),
    "recall": Score("recall", "share of what is true that was found"),
    "f1": Score("F1", "harmonic mean of precision and recall"),
    "average_precision": Score("average precision", "of all thresholds together"),
    "pixel_accuracy": Score("pixel accuracy", "share of pixels of the right class; high where there is little to find"),
    "calibration_error": Score("calibration error", "how far probabilities are from what comes true; 0 is best", False),
    "hausdorff95": Score("Hausdorff 95 %", "how far outlines are apart where they are worst", False, True),
    "surface_distance": Score("surface distance", "how far outlines are apart on average", False, True),
    "volume_hausdorff95": Score("Hausdorff 95 %, volumes", "as above, of surfaces in 3-D", False, True),
    "volume_surface_distance": Score("surface distance, volumes", "as above, of surfaces in 3-D", False, True),
}


def score_label(name: str, distance_unit: str = "px") -> str:
    """Returns what a score of metrics.json is called: "hausdorff95" and "object_f1@0.50" with what belongs to it."""
    plain, _, threshold = name.partition("@")
    score = SCORES[plain]
    unit = f" ({distance_unit})" if score.is_distance else ""
    return score.label + unit + (f", IoU {float(threshold):g}" if threshold else "")
