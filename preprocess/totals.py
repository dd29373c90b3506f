"""What a run did, in lines: the same on every runner, because they come from the shards' reports."""

import re
from collections import Counter

import pandas as pd

from preprocess.write import ShardReport
from records.shards import Shard

_MOST_REASONS = 5


def describe_totals(
    plan: pd.DataFrame, reports: dict[Shard, ShardReport], made: set[Shard], seconds: float
) -> list[str]:
    """Returns lines: examples read, written and rejected (by reason), bytes, rates, and what was mended.

    Args:
      plan: as `make_plan` returns it.
      reports: of all shards.
      made: the shards that this run made; the others were finished before.
      seconds: that this run took for them.
    """
    written = sum(len(report.keys) for report in reports.values())
    size = sum(report.bytes for report in reports.values())
    early = plan.loc[plan["status"] == "rejected", "reason"].tolist()
    late = [reason for report in reports.values() for _, reason in report.rejected]
    now = sum(len(reports[shard].keys) for shard in made)
    rate = f", {now / seconds:.1f} examples/s" if now and seconds > 0 else ""
    lines = [
        f"{'totals':<10} read {written + len(early) + len(late)} · written {written} ({size / 2**20:.1f} MiB"
        f"{rate}) · rejected {len(early) + len(late)}"
    ]
    reasons = Counter(kind_of(reason) for reason in early + late)
    lines += [f"{'':<10} {count} rejected: {reason}" for reason, count in reasons.most_common(_MOST_REASONS)]
    if len(reasons) > _MOST_REASONS:
        rest = sum(reasons.values()) - sum(count for _, count in reasons.most_common(_MOST_REASONS))
        lines.append(f"{'':<10} {rest} rejected for other reasons")
    warnings: Counter[str] = Counter()
    for report in reports.values():
        warnings.update(report.warnings)
    return lines + [f"{'warning':<10} {text} ({count} examples)" for text, count in sorted(warnings.items())]


def kind_of(reason: str) -> str:
    """Returns a reason without the file it speaks of, its lists and numbers, so that like reasons can be counted."""
    what = re.sub(r"\[[^\]]*\]", "[…]", re.sub(r"^(\S+: )+", "", reason))
    return re.sub(r"\d+", "#", what)
