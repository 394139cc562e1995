"""The causes of failure that a caller can act on.

Every message says what was given and what would be right. Commands print the message of an
`Error` without a traceback and exit with a code other than 0.
"""


class Error(Exception):
    """Base of every error that Handrail raises on purpose."""


class ConfigError(Error, ValueError):
    """A config file or override holds an unknown key or a bad value."""


class DeviceLost(Error, ConnectionError):
    """A robot, camera, or the process that owns it stopped answering."""


class LinkTimeout(Error, TimeoutError):
    """A peer did not answer within the deadline; the message says what was awaited."""


class ProtocolMismatch(Error, ValueError):
    """Two peers disagree on protocol version, task or spec; the message names both sides."""


class CorruptMessage(ProtocolMismatch):
    """A message was changed on its way; whoever gets it goes on as if it had been lost."""


class NotGranted(Error, PermissionError):
    """A peer asked for what it was not granted; the message says what it has and what it takes."""


class StorageError(Error, OSError):
    """A spool, store or log can't be written or read back."""


class CheckpointError(Error, ValueError):
    """A checkpoint is missing, damaged, or of another format or config."""


class TrainingFailed(Error):
    """Training can't come to anything any more; the message says why and what is kept."""


class RunFolderError(Error, ValueError):
    """A run folder is missing, in use, of another task, or of a newer format."""
