"""Records for the terminal: what a folder holds."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from records.info import RecordsInfo

_BAR = 40


def info_tables(info: RecordsInfo, folder: str) -> Group:
    """Returns splits, class shares and a histogram of object counts, to be printed."""
    size = "native sizes" if info.height is None else f"{info.height}x{info.width}"
    channels = {1: "grey", 3: "RGB"}[info.channels]
    raw = "raw " if info.coding == "raw" else ""
    classes = ", overlapping classes" if info.overlapping else ""
    folds = f", {len(info.folds)} folds" if info.folds else ""
    head = Text(
        f"{folder}: {info.name}, {size} {raw}{info.dtype} {channels}{classes}{folds}, "
        f"fingerprint {info.fingerprint[:12]}\n"
    )
    splits = Table(title="splits", title_justify="left")
    for heading in ("split", "examples", "shards", "MiB"):
        splits.add_column(heading, justify="left" if heading == "split" else "right")
    for name, split in info.splits.items():
        mib = sum(split.shard_bytes) / 2**20
        splits.add_row(name, str(split.num_examples), str(len(split.shard_lengths)), f"{mib:.1f}")
    parts = [head, splits]
    if info.labeled:
        parts.append(_class_table(info))
    if info.instances:
        parts.append(_object_histogram(info))
    if info.rejected:
        parts.append(Text(f"{info.rejected} bad raw items were left out, see rejected.csv"))
    parts += [Text(f"mended on reading, {count} times: {warning}") for warning, count in info.warnings.items()]
    return Group(*parts)


def _class_table(info: RecordsInfo) -> Table:
    # Overlapping classes leave pixels that are labelled as no class, and others that are labelled as several.
    whole = "the sum of all classes' pixels" if info.overlapping else "the labelled pixels"
    table = Table(title=f"classes: share of {whole} / of the examples", title_justify="left")
    table.add_column("class")
    # Folds are alike, and too many for one line.
    columns = {"folds": [info.splits[name] for name in info.folds]} if info.folds else {}
    columns |= {name: [split] for name, split in info.splits.items() if name not in info.folds}
    columns = {name: splits for name, splits in columns.items() if sum(split.num_examples for split in splits)}
    for name in columns:
        table.add_column(name, justify="right")
    for number, class_name in enumerate(info.classes):
        cells = []
        for splits in columns.values():
            pixels = sum(split.class_pixels[number] for split in splits)
            examples = sum(split.class_examples[number] for split in splits)
            share = pixels / max(1, sum(sum(split.class_pixels) for split in splits))
            cells.append(f"{share:.2%} / {examples / sum(split.num_examples for split in splits):.0%}")
        table.add_row(class_name, *cells)
    return table


def _object_histogram(info: RecordsInfo) -> Table:
    counts = [sum(values) for values in zip(*(split.object_counts for split in info.splits.values()), strict=True)]
    last = max(bin_ for bin_, count in enumerate(counts) if count)
    table = Table(title="objects per example", title_justify="left")
    table.add_column("objects", justify="right")
    table.add_column("examples", justify="right")
    table.add_column("")
    for bin_ in range(last + 1):
        low, high = (1 << bin_) >> 1, (1 << bin_) - 1  # bin k holds the counts of k bits
        label = str(low) if low >= high else f"{low} – {high}"
        table.add_row(label, str(counts[bin_]), "█" * round(_BAR * counts[bin_] / max(counts)))
    return table
