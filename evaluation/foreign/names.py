"""What other tools may call a record: their files and rows are named after images, each in its own way."""

from collections import defaultdict
from collections.abc import Iterator

import pandas as pd

from evaluation.examples import read_places, read_plan
from evaluation.pictures import file_name
from records.shards import Shard


class RecordNames:
    """The names of a split's records.

    Its key and `evaluation.pictures.file_name` of that name a record, whatever others are called. So does the last part
    of its key, or of its raw image's path, with or without extension, where no other record of the split has it.
    """

    def __init__(self, records: str, split: str):
        """Takes the folder of the records and a split.

        Raises:
          ValueError: offsets.parquet or plan.parquet beside the records cannot be read.
        """
        shards = read_places(records)["shard"]
        splits = {path: Shard.parse(path.rpartition("/")[2]).split for path in shards.unique()}
        of_split = pd.Index(shards.index[shards.map(splits) == split])
        plan = read_plan(records, ["key", "image"], "what predictions are called")
        is_in = plan["key"].isin(of_split)
        self.keys: list[str] = of_split.tolist()
        self._exact = {file_name(key): key for key in self.keys} | {key: key for key in self.keys}
        self._loose: dict[str, list[str]] = defaultdict(list)
        for key, image in _rows(plan[is_in]):
            for name in _loose_names(key, image):
                if len(self._loose[name]) < 2:
                    self._loose[name].append(key)
        self._others = {
            name for row in _rows(plan[~is_in]) for name in (row[0], file_name(row[0]), *_loose_names(*row))
        }

    def find(self, *names: str) -> str | None:
        """Returns the key of the record that is called so, the first name before the others; None: there is none.

        Raises:
          ValueError: several records are.
        """
        for name in names:
            if name in self._exact:
                return self._exact[name]
        for name in names:
            if keys := self._loose.get(name):
                if len(keys) > 1:
                    raise ValueError(
                        f"expected the name of one record, found {name!r}, which fits {keys[0]!r} and {keys[1]!r}; use "
                        "keys as names"
                    )
                return keys[0]
        return None

    def is_elsewhere(self, *names: str) -> bool:
        """Returns whether an image of another split, or one that was left out, is called so."""
        return not self._others.isdisjoint(names)


def _rows(plan: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yields (key, path of the raw image or ""); an annotation without an image has none."""
    return zip(plan["key"].fillna(""), plan["image"].fillna(""), strict=True)


def _loose_names(key: str, image: str) -> set[str]:
    file = image.rpartition("/")[2]
    return {key.rpartition("/")[2], file, file.rpartition(".")[0] or file} - {""}
