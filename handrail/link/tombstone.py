"""What stands for a row that its disk has damaged, so that the rows behind it can go on.

A row carries its checksum, so whoever reads it from a disk can tell. Its bytes stay where they are;
this mark goes to the learner in its place, and the store notes that the row is lost.
"""

from __future__ import annotations

from blake3 import blake3

_MAGIC = b"HRX1"
CORRUPT_ROW = blake3(_MAGIC).digest() + _MAGIC  # shorter than any row or label
