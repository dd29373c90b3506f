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
        if not cluster:
            return 1
        addresses = {job: _check_addresses(job, cluster[job]) for job in cluster}
        if set(addresses) - set(_JOBS) or len(addresses.get("chief", [0])) != 1:
            raise ValueError("there is more than workers and one chief")
        everyone = [address for each in addresses.values() for address in each]
        if len(set(everyone)) < len(everyone):
            raise ValueError("an address stands there twice")
        task = content["task"]
        if not 0 <= int(task["index"]) < len(addresses[task["type"]]):
            raise ValueError(f"no {task['type']} has index {task['index']}")
        return len(everyone)
    except KeyError as error:
        raise ValueError(f"TF_CONFIG: {_EXPECTED}, found {text} (without {error})") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"TF_CONFIG: {_EXPECTED}, found {text} ({error})") from error


def _check_addresses(job: str, addresses: object) -> list[str]:
    """Returns a job's addresses. (A text alone would be taken for a list of its characters.)"""
    if not isinstance(addresses, list) or not addresses or not all(isinstance(each, str) for each in addresses):
        raise TypeError(f"{job} has no list of addresses")
    for each in addresses:
        host, _, port = each.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise ValueError(f"{each} is not host:port")
    return addresses
