"""What goes over the wire, as OpenAPI describes it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

AnswerKind = Literal["objects", "mask", "overlay", "view"]
Shape = Literal["polygon", "rle", "none"]


class JsonUpload(BaseModel):
    """A file in a JSON body."""

    model_config = ConfigDict(extra="forbid")

    file: str = Field(description="The bytes of a PNG, JPEG, TIFF, BMP or NIfTI file in base64.", min_length=1)


class ErrorAnswer(BaseModel):
    """Why a request is not answered."""

    error: str = Field(description="One line.")


class ImageSize(BaseModel):
    """Size of what was uploaded, in pixels."""

    height: int
    width: int
    slices: int | None = Field(None, description="Of a scan: how many.")
    spacing_mm: list[float] | None = Field(None, description="From row to row, column to column, slice to slice.")


class ClassFound(BaseModel):
    """What was found of a class."""

    pixels: int = Field(description="Of a scan: voxels.")
    share: float = Field(description="Of all pixels.")
    objects: int | None = Field(None, description="Of a picture: how many.")
    volume_ml: float | None = Field(None, description="Of a scan.")


class ObjectFound(BaseModel):
    """An object of a picture."""

    model_config = ConfigDict(populate_by_name=True)

    class_: str = Field(alias="class")
    score: float = Field(description="Mean probability of its pixels.")
    pixels: int
    bbox: list[int] = Field(description="x, y, width, height.")
    polygon: list[list[list[tuple[float, float]]]] | None = Field(
        None, description="A GeoJSON MultiPolygon along the edges of the pixels, (0, 0) the upper left corner."
    )
    rle: str | None = Field(None, description="Pairs of start and length, column by column from 1 (Kaggle's code).")


class SliceFound(BaseModel):
    """What was found in a slice of a scan."""

    index: int = Field(description="From 0, the lowest.")
    pixels: dict[str, int] = Field(description="By class.")


class View(BaseModel):
    """What was found, to be drawn, in base64.

    Of pictures a gzip of a byte for each pixel, row by row (browsers may change pixels of images that they are asked to
    tell); of scans a NIfTI of 8 bits on the scan's grid.
    """

    image: str | None = Field(None, description="The picture as people see it: PNG of 8 bits.")
    areas: dict[str, str] = Field(description="By class: 1 where it is, else 0.")
    probabilities: dict[str, str] = Field(
        description="By class, in 256 levels: at least k exactly where the probability is at least k/256."
    )


class Answer(BaseModel):
    """What was found."""

    image: ImageSize
    cleared: bool = Field(description="Whether a gate found nothing, so that nothing was segmented.")
    classes: dict[str, ClassFound]
    objects: list[ObjectFound] = Field(description="Of a picture; a scan has none.")
    slices: list[SliceFound] | None = Field(None, description="Of a scan.")
    view: View | None = Field(None, description="Where it was asked for.")


class Example(BaseModel):
    """An image that the model was judged on."""

    name: str = Field(description="Its key, as files are named for it.")
    rank: str = Field(description="Such as best-01.")
    evaluation: str
    image: bool = Field(description="Whether the image itself is there, beside the picture of what was found in it.")


class ModelAnswer(BaseModel):
    """What is served."""

    name: str = Field(description="Of the run.")
    classes: list[str] = Field(description="That are found.")
    colours: list[str] = Field(description="Of the classes in overlays, as #rrggbb.")
    overlapping: bool = Field(description="Whether a pixel may belong to several.")
    covers: bool = Field(
        description="Whether every pixel belongs to one of the classes: then one threshold for all of "
        "them changes nothing."
    )
    input: Literal["picture", "scan"] = Field(description="A scan is a CT in NIfTI, in Hounsfield units.")
    channels: int
    dtype: str
    size: list[int] | None = Field(description="Height and width of the images it was trained on.")
    stretched: bool = Field(description="Whether images are stretched to that size, else cut into tiles.")
    tile: int | None = Field(description="Side of the tiles.")
    precision: str
    tta: bool
    models: int = Field(description="Whose probabilities are averaged.")
    gate: bool
    batch_sizes: list[int]
    steps: dict[str, dict[str, Any]] = Field(description="By class: the threshold, and what is done behind it.")
    scores: dict[str, dict[str, Any]] = Field(description="By evaluation: metrics.json of test.py.")
    fingerprint: str = Field(description="Of the records it was trained on.")
    sha256: str = Field(description="Of the model.")
    limits: dict[str, float]
    examples: list[Example] = Field(description="Of the newest evaluation.")


class State(BaseModel):
    """Whether the server works."""

    status: Literal["ok"]
