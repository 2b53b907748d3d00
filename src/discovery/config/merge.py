"""How the settings of several sources become one, and those that do not come from files.

Source: Consul documentation (agent configuration: the order of sources); Consul's observed behaviour for lists.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from discovery.model.duration import InvalidDuration

from .decode import Setting, Settings, value_of_text
from .kinds import LISTS, MAPS
from .schema import LEGACY, known_keys
from .tree import ConfigError

FLAGS: Final = "command line"
_DEV_GOSSIP: Final = {"gossip_interval": 0.1, "probe_interval": 0.1, "probe_timeout": 0.1, "suspicion_mult": 3}
_DEV: Final[Mapping[str, object]] = {
    "bind_addr": "127.0.0.1",
    "disable_keyring_file": True,
    "log_level": "DEBUG",
    "performance.raft_multiplier": 1,
    "server": True,
    **{f"{pool}.{name}": value for pool in ("gossip_lan", "gossip_wan") for name, value in _DEV_GOSSIP.items()},
}


def dev_settings() -> Settings:
    """What `-dev` sets before anything else is read."""
    return {key: Setting(value, "-dev") for key, value in _DEV.items()}


def merged(sources: Iterable[Settings]) -> Settings:
    """Later scalars replace earlier ones, lists are joined, maps are merged by their keys."""
    result: Settings = {}
    for settings in sources:
        for key, setting in settings.items():
            before = result.get(key)
            result[key] = setting if before is None else Setting(_joined(key, before.value, setting.value), setting.place)
    return result


def modernised(settings: Settings) -> Settings:
    """With the keys that have replaced others in their place, unless they are set themselves."""
    successors = {LEGACY[key]: setting for key, setting in settings.items() if key in LEGACY}
    return successors | {key: setting for key, setting in settings.items() if key not in LEGACY}


def _joined(key: str, before: object, after: object) -> object:
    kind = known_keys()[key].kind
    if kind in LISTS and isinstance(before, list) and isinstance(after, list):
        return before + after
    if kind in MAPS and isinstance(before, dict) and isinstance(after, dict):
        return {**before, **after}
    return after


def flag_settings(flags: Mapping[str, tuple[str, ...]]) -> tuple[Settings, Settings]:
    """Those of list keys, which go before the files, and the others, which go behind them. Raises `ConfigError`."""
    lists: Settings = {}
    others: Settings = {}
    for key, texts in flags.items():
        kind = known_keys()[key].kind
        if kind in LISTS:
            lists[key] = Setting(list(texts), FLAGS)
        elif kind in MAPS:
            pairs = (text.partition(":") for text in texts)
            others[key] = Setting({name: value for name, _, value in pairs}, FLAGS)
        else:
            others[key] = Setting(_scalar(key, texts[-1]), FLAGS)
    return lists, others


def _scalar(key: str, text: str) -> object:
    kind = known_keys()[key].kind
    try:
        return value_of_text(kind, text)
    except InvalidDuration as error:
        raise ConfigError(f'{key}: invalid duration: "{text}": {error} ({FLAGS})') from None
    except ValueError:
        raise ConfigError(f'{key}: invalid value "{text}" ({FLAGS}; expected {kind})') from None
