"""The machines that train together, as TF_CONFIG names them; known before TensorFlow is imported."""

import json
import os

_JOBS = ("chief", "worker")

_EXPECTED = (
    'expected {"cluster": {"worker": ["host0:port", "host1:port"]}, "task": {"type": "worker", "index": 0}}, with a '
    "chief beside the workers at most"
)


def cluster_size() -> int:
    """Returns the number of machines that TF_CONFIG names; 1 without it.

    Raises:
      ValueError: TF_CONFIG cannot be understood, or names machines of other kinds.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return 1
    try:
        content = json.loads(text)
        cluster = content.get("cluster", {})
        sizes = {job: _count(job, addresses) for job, addresses in cluster.items()}
        if not sizes:
            return 1
        task = content["task"]
        known = 0 <= int(task["index"]) < sizes[task["type"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"TF_CONFIG: {_EXPECTED}, found {text} ({type(error).__name__}: {error})") from error
    if not known or set(sizes) - set(_JOBS) or sizes.get("chief", 1) != 1:
        raise ValueError(f"TF_CONFIG: {_EXPECTED}, found {text}")
    return sum(sizes.values())


def _count(job: str, addresses: object) -> int:
    """Returns how many addresses a job has; a text alone would be taken for a list of its characters."""
    if not isinstance(addresses, list) or not all(isinstance(address, str) for address in addresses):
        raise TypeError(f"{job} has no list of addresses")
    return len(addresses)
