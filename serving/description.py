"""What a server says of its model."""

import dataclasses
import json
from pathlib import Path

from imaging.painting import colour
from serving.schema import Example, ModelAnswer
from serving.service import Service

_LIMITS = ("max_body_mib", "max_pixels", "max_voxels", "max_slices", "timeout_s", "queue")


def describe_model(service: Service, run: Path, examples: list[Example]) -> ModelAnswer:
    """Returns what clients need to know of the model.

    Args:
      service: that predicts.
      run: RUN folder, for its name and the scores that test.py found.
      examples: images that it was judged on.
    """
    predictor, trained = service.predictor, service.predictor.trained
    is_ct = trained.intensity is not None and trained.intensity["unit"] == "HU"
    settings = dataclasses.asdict(service.config)
    return ModelAnswer(
        name=run.resolve().name,
        classes=list(trained.scored_classes.values()),
        colours=["#{:02x}{:02x}{:02x}".format(*colour(index)) for index in range(len(trained.scored_classes))],
        overlapping=trained.overlapping,
        covers=not trained.overlapping and 0 in trained.scored_classes,
        input="scan" if is_ct else "picture",
        channels=trained.channels,
        dtype=trained.dtype,
        size=None if trained.size is None else list(trained.size),
        stretched=trained.stretched,
        tile=trained.tile,
        precision=trained.precision,
        tta=trained.tta,
        models=1 + len(trained.others),
        gate=predictor.gate is not None,
        batch_sizes=service.model.sizes,
        steps=predictor.describe(),
        scores=_read_scores(run),
        fingerprint=trained.fingerprint,
        sha256=trained.digest,
        limits={name: settings[name] for name in _LIMITS},
        examples=examples,
    )


def _read_scores(run: Path) -> dict[str, dict]:
    scores = {}
    for path in sorted((run / "eval").glob("*/metrics.json")):
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if isinstance(content, dict):
            scores[path.parent.name] = content
    return scores
