"""Forms of three competitions' files of predictions; what their rows are stands in `evaluation.submission`."""

from typing import NamedTuple


class Form(NamedTuple):
    """What the rows of a competition's file are.

    Attributes:
      column: heading of the first column; the second is EncodedPixels.
      extension: whether images are called by their file names, else by their keys without directories.
      classes: one row each; None: one row for each object.
      size: (height, width) of the masks; None: the raw image's.
    """

    column: str
    extension: bool
    classes: tuple[str, ...] | None = None
    size: tuple[int, int] | None = None

    def row_ids(self, image: str) -> list[str]:
        """Returns what stands in the first column for an image."""
        return [image] if self.classes is None else [f"{image}_{name}" for name in self.classes]


FORMS = {
    "airbus": Form("ImageId", extension=True),
    "nuclei": Form("ImageId", extension=False),
    "clouds": Form("Image_Label", extension=True, classes=("Fish", "Flower", "Gravel", "Sugar"), size=(350, 525)),
}
