"""Whether records, settings and devices fit together: asked before anything of a run is made."""

from records.info import RecordsInfo, training_splits
from records.input_pipeline import check_sizes, steps_per_epoch
from records.mixing import check_weights
from training.config import TrainConfig
from training.devices import check_batch_size
from training.task import check_classifier
from training.workers import Workers


def check_fits(records: str, info: RecordsInfo, config: TrainConfig, workers: Workers) -> None:
    """Raises ValueError unless records, settings and devices fit together."""
    check_batch_size(config.global_batch_size, workers.strategy.num_replicas_in_sync)
    if workers.count > 1 and config.input.data_service is not None:
        raise ValueError(
            f"input.data_service: expected none for {workers.count} training machines, which each decode their share; "
            "leave it out"
        )
    if workers.count > 1 and info.height is None:
        raise ValueError(
            f"{records}: expected images of one size for {workers.count} training machines, found several, whose tiles "
            "cannot be counted beforehand; train on one machine, or preprocess with --size"
        )
    if not info.labeled:
        raise ValueError(f"{records}: expected records with masks, found unlabelled ones")
    splits, validation_split = training_splits(info, config.input.fold)
    files = info.shard_files(records, splits)
    steps_per_epoch(files, config.global_batch_size // workers.count, workers.count)
    check_image_size(info, config)
    info.shards(validation_split)
    check_classifier(config, info, validation_split)
    check_weights(records, info, config.input)


def check_image_size(info: RecordsInfo, config: TrainConfig) -> None:
    """Raises ValueError unless the network can halve the images, or crops of them, as often as it wants to."""
    check_sizes(info, config.input)
    if config.input.crop and info.height and config.input.crop > max(info.height, info.width):
        raise ValueError(
            f"input.crop: expected at most the images' {info.height}x{info.width}, found {config.input.crop}; "
            "leave it out"
        )
    multiple = config.model.multiple
    height, width = (config.input.crop, config.input.crop) if config.input.crop else (info.height, info.width)
    if height % multiple or width % multiple:
        advised = -(-max(height, width) // multiple) * multiple
        scaling = f", --model.input_scaling {config.model.input_scaling}" if config.model.input_scaling > 1 else ""
        remedy = f"choose --input.crop {advised}" if config.input.crop else f"preprocess with --size {advised}"
        raise ValueError(
            f"expected images whose height and width are multiples of {multiple} (--model.depth {config.model.depth}"
            f"{scaling}), found {height}x{width}; {remedy}, or choose a smaller depth"
        )
