"""Run one of a run's processes so that its end says why.

python -m handrail.processes.entry MODULE [options]
"""

from __future__ import annotations

import gc
import importlib
import sys

from handrail.processes.exit_record import (
    describe_error,
    keep_exit_record,
    record_end,
    record_error,
)


def main(argv: list[str]) -> int:
    """Run a package's main with the other arguments; return its exit code.

    Nobody but its own main ends a process in an orderly way: an `exit()` in a user's environment is
    an error, whatever its code.
    """
    keep_exit_record()
    try:
        code = importlib.import_module(f"{argv[0]}.__main__").main(argv[1:])
    except SystemExit as error:
        record_error(error)
        print(describe_error(error), file=sys.stderr)
        return error.code if isinstance(error.code, int) and error.code else 1
    finally:
        gc.freeze()  # Python would go through all that libraries made, seconds long, to end
    record_end(code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
