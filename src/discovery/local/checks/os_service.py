"""OS service checks: what the machine's service manager says. Consul has them for Windows; here it is systemd.

Source: systemd's documentation of `systemctl show` and of a unit's `ActiveState`.
"""

from typing import Final

from .program import OutOfTime, run_program
from .result import Result, critical, passing, warning

_COMMAND: Final = ("systemctl", "show", "--property=ActiveState", "--value", "--")
_LIMIT: Final = 1024
_IN_BETWEEN: Final = ("activating", "reloading", "deactivating", "refreshing", "maintenance")


class OsServiceProbe:
    """`name` is that of a unit; without a suffix it is a service. `timeout` is in seconds."""

    def __init__(self, name: str, timeout: float) -> None:
        self._name = name
        self._timeout = timeout

    async def run(self) -> Result:
        try:
            code, output = await run_program((*_COMMAND, self._name), self._timeout, _LIMIT)
        except OutOfTime:
            return critical(f"{self._name}: systemctl did not answer in time")
        except (OSError, ValueError) as error:
            return critical(f"OS service checks need systemd: {error}")
        state = output.text.strip()
        if code != 0:
            return critical(f"{self._name}: {state}")
        text = f"Service {self._name} is {state}"
        if state == "active":
            return passing(text)
        return warning(text) if state in _IN_BETWEEN else critical(text)
