"""What is wrong with a configuration as a whole."""

from .decode import Settings, several
from .tree import ConfigError


class Faults:
    """Collects faults; each is told with the place where the key in question was set."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._texts: list[str] = []

    def add(self, text: str, *keys: str) -> None:
        """A fault in Consul's words where Consul has some. The first of `keys` that was set is where to look."""
        self._texts.append(text + self.place(*keys))

    def place(self, *keys: str) -> str:
        """` (file:line:column)`, or nothing if the keys have their defaults."""
        return next((f" ({self._settings[key].place})" for key in keys if key in self._settings), "")

    def raise_any(self) -> None:
        """Raises `ConfigError`. A single fault stands alone, as Consul, which stops at the first, shows it."""
        texts = list(dict.fromkeys(self._texts))
        if texts:
            raise ConfigError(texts[0] if len(texts) == 1 else several(texts))
