"""Which of the sources are larger than memory, and what becomes of them."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from imaging.raster import count_pixels, is_tiff
from inference.config import FilesConfig, OutputKind
from inference.inputs.frames import describe_error
from inference.inputs.sources import Source
from inference.large.predict import predict_large
from inference.predictor import Predictor

_WRITTEN = ("mask", "overlay", "probability", "contours")


def is_large(file: Path | bytes, large_mpx: float) -> bool:
    """Returns whether an image file is to be predicted by `predict_large`, by its header.

    Args:
      file: its path, or its bytes where it has none of its own.
      large_mpx: million pixels from which an image is large.

    Raises:
      ValueError: it is, but cannot be read in parts.
    """
    if (pixels := count_pixels(file)) < large_mpx * 1e6:
        return False
    found = f"expected fewer than {large_mpx:g} million pixels of an image that is read whole, found {pixels / 1e6:.0f}"
    if isinstance(file, bytes):
        raise ValueError(f"{found} in a zip; unpack it, and give a TIFF by its path")
    if not is_tiff(file):
        raise ValueError(f"{found}; convert it to a TIFF in tiles (gdal_translate -co TILED=YES), or raise --large_mpx")
    return True


def divide(
    sources: Iterable[Source], large_mpx: float, fail: Callable[[Source, str], None]
) -> tuple[list[Source], list[Source]]:
    """Returns (sources that are read whole, large ones), in their order.

    Args:
      sources: all; members of zips are always read whole.
      large_mpx: see `is_large`.
      fail: gets each that is too large and cannot be read in parts, and why.
    """
    small: list[Source] = []
    large: list[Source] = []
    for source in sources:
        path = Path(source.where)
        try:
            in_parts = source.kind == "picture" and path.is_file() and is_large(path, large_mpx)
        except ValueError as error:
            fail(source, str(error))
        else:
            (large if in_parts else small).append(source)
    return small, large


def left_out(predictor: Predictor, kinds: Sequence[OutputKind]) -> list[str]:
    """Returns what is not written of large images though it was asked for, in sentences."""
    missing = [kind for kind in kinds if kind not in _WRITTEN]
    sentences = [f"of large images are not written: {', '.join(missing)}"] if missing else []
    if any(steps.split for steps in predictor.postprocess.values()):
        sentences.append("objects of large images that touch are one: split is not made")
    return sentences


def predict_source(
    source: Source,
    predictor: Predictor,
    config: FilesConfig,
    tell: Callable[[str], None],
    fail: Callable[[Source, str], None],
) -> dict | None:
    """Returns what `predict_large` does of a source that `divide` gave; None where it fails.

    Args:
      source: a TIFF.
      predictor: see there.
      config: settings.
      tell: gets how far it is, in words.
      fail: gets the source and why it failed.
    """

    def told(tiles: int, total: int) -> None:
        tell(f"{source.name}: {tiles:,} of {total:,} tiles")

    folder = Path(config.out)
    try:
        return predict_large(source.where, source.name, predictor, folder, config.save, config.batch_size, told)
    except ValueError as error:
        fail(source, describe_error(error))
        return None
