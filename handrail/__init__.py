"""Handrail: what the robot host and the learner host share."""

from handrail.errors import (
    CheckpointError,
    ConfigError,
    DeviceLost,
    Error,
    LinkTimeout,
    ProtocolMismatch,
    RunFolderError,
    StorageError,
)

__version__ = "0.1.0"
__all__ = [
    "CheckpointError",
    "ConfigError",
    "DeviceLost",
    "Error",
    "LinkTimeout",
    "ProtocolMismatch",
    "RunFolderError",
    "StorageError",
    "__version__",
]
