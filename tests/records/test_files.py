"""Files behind a scheme, here file://, which takes the way of remote ones."""

import pandas as pd
import pyarrow.parquet as pq

from records.files import file_size, join, open_file


def test_a_remote_file_is_read_in_parts_from_any_place(tmp_path):
    (tmp_path / "letters").write_bytes(b"abcdefghij")
    path = join(f"file://{tmp_path}", "letters")
    assert file_size(path) == 10
    with open_file(path) as file:
        assert file.read(3) == b"abc"
        file.seek(-2, 2)
        assert file.read() == b"ij"
        file.seek(4)
        assert (file.read(2), file.tell()) == (b"ef", 6)
    assert file.closed
    assert file_size(join(f"file://{tmp_path}", "numbers")) is None


def test_arrow_and_pandas_read_remote_tables(tmp_path):
    table = pd.DataFrame({"key": ["a", "b"], "offset": [0, 7]})
    table.to_parquet(tmp_path / "table.parquet")
    path = f"file://{tmp_path}/table.parquet"
    with open_file(path) as file:
        assert pq.read_schema(file).names == ["key", "offset"]
    with open_file(path) as file:
        pd.testing.assert_frame_equal(pd.read_parquet(file), table)
