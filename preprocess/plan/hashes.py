"""Salted hashes: they choose and order by key alone, so that what one key gets never depends on the others."""

import hashlib

import numpy as np
import pandas as pd


def salted_hashes(values: pd.Series, salt: str) -> np.ndarray:
    """Returns the first 64 bits of the SHA-256 of "salt:value" for every text: uint64, in their order; a missing text
    counts as empty.
    """
    salted = hashlib.sha256(f"{salt}:".encode())

    def digest(value: str) -> bytes:
        own = salted.copy()
        own.update(value.encode())
        return own.digest()[:8]

    texts = values.fillna("").to_numpy(object)
    return np.frombuffer(b"".join(map(digest, texts)), ">u8").astype(np.uint64)
