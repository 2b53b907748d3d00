"""Script checks: a program's exit code says how the service is. Never a shell, unless the operator names one in `args`."""

import os
from collections.abc import Sequence

from .program import OutOfTime, run_program
from .result import Result, critical, passing, warning


def of_exit_code(code: int | None, output: str) -> Result:
    """0 passing, 1 warning, everything else critical."""
    if code == 0:
        return passing(output)
    return warning(output) if code == 1 else critical(output)


class ScriptProbe:
    """`timeout` is in seconds, `timeout_text` as it was written, `limit` the bytes of output that are kept."""

    def __init__(self, args: Sequence[str], timeout: float, timeout_text: str, limit: int) -> None:
        self._args = args
        self._timeout = timeout
        self._timeout_text = timeout_text
        self._limit = limit

    async def run(self) -> Result:
        try:
            code, output = await run_program(self._args, self._timeout, self._limit)
        except OutOfTime as ended:
            return critical(f"Timed out ({self._timeout_text}) running check\n\n{ended.output.captured()}")
        except (OSError, ValueError) as error:
            return critical(self._start_error(error))
        return of_exit_code(code, output.captured())

    def _start_error(self, error: OSError | ValueError) -> str:
        program = self._args[0]
        if "/" not in program and isinstance(error, FileNotFoundError):
            return f'exec: "{program}": executable file not found in $PATH'
        reason = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)
        return f"fork/exec {program}: {reason}"
