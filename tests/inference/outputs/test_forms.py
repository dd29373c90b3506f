"""Which form a sample submission has, and which inputs are its images."""

import pytest

from inference.inputs.sources import Source
from inference.outputs.forms import FORMS, match_images, tell_form


def sample_of(tmp_path, column: str, ids: list[str]) -> str:
    path = tmp_path / "sample.csv"
    path.write_text("\n".join([f"{column},EncodedPixels", *(f"{one},1 1" for one in ids)]) + "\n", encoding="utf-8-sig")
    return str(path)


def sources_of(*paths: str) -> list[Source]:
    return [
        Source(path, path, "scan" if path.endswith(".nii") else "picture", bytes, path.split("/")[-1]) for path in paths
    ]


@pytest.mark.parametrize(
    ("form", "column", "ids"),
    [
        ("airbus", "ImageId", ["b.jpg", "a.JPG", "b.jpg"]),
        ("nuclei", "ImageId", ["b", "a"]),
        ("nuclei", "ImageId", ["v1.5", "a.b"]),
        ("clouds", "Image_Label", ["a.jpg_Fish", "a.jpg_Sugar", "b_c.jpg_Fish"]),
    ],
)
def test_the_form_follows_from_heading_and_ids(tmp_path, form, column, ids):
    assert tell_form(sample_of(tmp_path, column, ids)) == (form, list(dict.fromkeys(ids)))


@pytest.mark.parametrize(
    ("column", "ids", "message"),
    [
        ("ImageId", ["a.jpg", "b"], "all called with an extension or all without, found 'a.jpg' and 1 without"),
        ("id", ["a"], "expected the column ImageId or Image_Label and rows beneath it, found 'id'"),
        ("ImageId", [], "and rows beneath it, found 'ImageId'"),
        ("Image_Label", ["a.jpg_Fish", "a.jpg"], "rows of Fish, Flower, Gravel, Sugar .* found 'a.jpg'"),
    ],
)
def test_what_is_no_sample_is_refused(tmp_path, column, ids, message):
    with pytest.raises(ValueError, match=message) as error:
        tell_form(sample_of(tmp_path, column, ids))
    assert "\n" not in str(error.value)


def test_images_are_found_by_their_names_in_whatever_folder():
    found = match_images(sources_of("z/b.jpg", "a.jpg", "other.jpg"), FORMS["airbus"], ["a.jpg", "b.jpg"], "s.csv")
    assert found == {"a.jpg": "a.jpg", "z/b.jpg": "b.jpg"}
    ids = ["a.jpg_Fish", "a.jpg_Sugar"]
    assert match_images(sources_of("z/a.jpg"), FORMS["clouds"], ids, "s.csv") == {"z/a.jpg": "a.jpg"}
    assert match_images(sources_of("z/a.nii", "z/a.png"), FORMS["nuclei"], ["a"], "s.csv") == {"z/a.png": "a"}


def test_images_that_lack_are_counted_and_images_of_one_name_named():
    with pytest.raises(ValueError, match=r"s.csv: expected its images among the inputs, found no 'b' .* \(2 of 3 are"):
        match_images(sources_of("a.png"), FORMS["nuclei"], ["a", "b", "c"], "s.csv")
    with pytest.raises(ValueError, match="of different names, found 'a' for x/a.png and y/a.tif"):
        match_images(sources_of("x/a.png", "y/a.tif"), FORMS["nuclei"], ["a"], "s.csv")
