"""Where exports go: whole, or not at all."""

import pytest

from serving.formats.folder import check_free, draft, folder_size, publish, write_metadata


def make(path, content: str, overwrite=False):
    with draft(path) as folder:
        (folder / "file").write_text(content)
        write_metadata(folder, {"made_by": "serving.export"})
        publish(folder, path, overwrite)


def test_an_export_is_there_when_it_is_published_and_nothing_is_left_beside(tmp_path):
    path = tmp_path / "deep" / "export"
    with draft(path) as folder:
        (folder / "file").write_text("new")
        assert not path.exists()
    assert [*path.parent.iterdir()] == []
    make(path, "new")
    assert (path / "file").read_text() == "new" and folder_size(path) == 3
    assert [*path.parent.iterdir()] == [path] and path.stat().st_mode & 0o755 == 0o755


def test_an_export_is_replaced_only_where_that_is_wanted(tmp_path):
    path = tmp_path / "export"
    make(path, "old")
    with pytest.raises(ValueError, match="found an export; replace it with --overwrite"):
        make(path, "new")
    assert (path / "file").read_text() == "old"
    make(path, "new", overwrite=True)
    assert (path / "file").read_text() == "new" and [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("kind", ["file", "folder", "empty", "other metadata", "link"])
def test_nothing_but_an_export_is_ever_replaced(kind, tmp_path):
    path = tmp_path / "there"
    if kind == "file":
        path.write_text("thesis")
    elif kind == "link":
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.mkdir()
        if kind != "empty":
            (path / ("metadata.json" if kind == "other metadata" else "thesis")).write_text('{"made_by": "me"}')
    with pytest.raises(ValueError, match="expected nothing, or an export, found something else"):
        check_free(path, overwrite=True)


def test_what_fails_on_the_way_leaves_the_old_export(tmp_path, monkeypatch):
    path = tmp_path / "export"
    make(path, "old")
    with pytest.raises(KeyError), draft(path) as folder:
        (folder / "file").write_text("half")
        raise KeyError
    renamed = type(path).rename

    def fail_on_the_new_one(self, target):
        if self.name == "new":
            raise OSError("the disk has gone")
        return renamed(self, target)

    monkeypatch.setattr(type(path), "rename", fail_on_the_new_one)
    with pytest.raises(OSError, match="the disk has gone"):
        make(path, "new", overwrite=True)
    assert (path / "file").read_text() == "old" and [*tmp_path.iterdir()] == [path]
