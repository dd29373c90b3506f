"""Losses on logits, one float32 value per example; ignored pixels count in none.

Per example, so that averaging over the global batch is the same for any number of replicas, and padding can be
weighted away. Sums run in float32: in float16 the sum of one 256x256 mask is already infinite.

All of them can be compiled by XLA.
"""

from collections.abc import Callable, Sequence
from functools import partial

import tensorflow as tf

from model.labels import Labels
from model.loss_config import LossConfig
from model.losses.boundary import boundary
from model.losses.entropy import balanced_weights, cross_entropy, focal
from model.losses.lovasz import lovasz
from model.losses.overlap import dice, focal_tversky, jaccard, tversky

__all__ = [
    "balanced_weights",
    "boundary",
    "cross_entropy",
    "dice",
    "focal",
    "focal_tversky",
    "jaccard",
    "lovasz",
    "make_loss",
    "tversky",
]


def make_loss(
    config: LossConfig, labels: Labels, class_weights: Sequence[float] | None = None
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns loss(masks, logits) -> float32 [batch], the weighted sum of the config's terms.

    masks: uint8 or uint16 [batch, height, width]; logits: [batch, height, width, outputs] of any float type.

    Args:
      config: settings.
      labels: what masks and logits mean.
      class_weights: one for each class, as `balanced_weights` returns them; None for those of the config.

    Raises:
      ValueError: not one weight for each class, "balanced" ones that were not handed over, or a setting that nothing
        reads where labels are these.
    """
    weights = config.class_weights if class_weights is None else class_weights
    if weights == "balanced":
        raise ValueError("loss.class_weights: expected the numbers that balanced stands for; see balanced_weights")
    if weights is not None and len(weights) != labels.num_classes:
        raise ValueError(
            f"loss.class_weights: expected {labels.num_classes} numbers, one for each class, found {list(weights)}"
        )
    if labels.softmax and config.focal_alpha not in (LossConfig.focal_alpha, None):
        raise ValueError(
            f"loss.focal_alpha: found {config.focal_alpha}, which only sigmoids read; {labels.num_classes} exclusive "
            "classes have a softmax, and loss.class_weights in its place"
        )
    shares = {"alpha": config.tversky_alpha, "beta": config.tversky_beta}
    functions = {
        "bce": partial(cross_entropy, class_weights=weights, smoothing=config.label_smoothing),
        "focal": partial(focal, alpha=config.focal_alpha, gamma=config.focal_gamma, class_weights=weights),
        "dice": dice,
        "jaccard": jaccard,
        "tversky": partial(tversky, **shares),
        "focal_tversky": partial(focal_tversky, **shares, gamma=config.focal_tversky_gamma),
        "lovasz": lovasz,
        "boundary": partial(boundary, reach=config.boundary_reach),
    }

    def loss(masks: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return tf.add_n([weight * functions[name](labels, masks, logits) for name, weight in config.terms.items()])

    return loss
