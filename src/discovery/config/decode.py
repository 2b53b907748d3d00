"""From a parsed source to its settings: every known key's value, checked for its type, with the place it came from.

All faults of a source are collected and told at once, in Consul's words, each followed by file, line and column and by what was
expected there.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from discovery.model.duration import Duration, InvalidDuration
from discovery.model.naming import go_name

from . import definitions, schema
from .definitions import SHAPES, Count, Nested
from .kinds import LISTS, Kind
from .nearest import nearest
from .tree import ConfigError, Document, Entry, Items, Node, Scalar, Table, plain


@dataclass(frozen=True, slots=True)
class Setting:
    value: object
    place: str
    """`file:line:column` or the flag."""


Settings: TypeAlias = dict[str, Setting]
"""By the path of the key."""


@dataclass(frozen=True, slots=True)
class Decoded:
    settings: Settings = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def decode(document: Document) -> Decoded:
    """Raises `ConfigError` that names every fault."""
    decoder = _Decoder(document)
    decoder.read_object(document.root, "", "")
    if decoder.faults:
        raise ConfigError(f"failed to parse {document.name}: {several(decoder.faults)}")
    return decoder.decoded


def several(faults: list[str]) -> str:
    """A list of errors as Consul writes it."""
    head = "1 error" if len(faults) == 1 else f"{len(faults)} errors"
    return f"{head} occurred:\n" + "".join(f"\t* {fault}\n" for fault in faults)


def value_of_text(kind: Kind, text: str) -> object:
    """A value given as bare text, by a flag; raises `ValueError`."""
    match kind:
        case Kind.BOOL:
            return _bool_of(text)
        case Kind.INT:
            return int(text, 0)
        case Kind.DURATION:
            return Duration.parse(text).seconds
        case _:
            return text


_GO_TYPES: Final = {bool: "bool", int: "int", float: "float64", str: "string"}
_WANTED: Final = {Kind.BOOL: "bool", Kind.INT: "int", Kind.FLOAT: "float64"}
_INT64: Final = range(-(2**63), 2**63)
_SHAPE_OF: Final = {Kind.SERVICES: "service", Kind.CHECKS: "check"}
_SHORT_LIST: Final = 16


class _Mismatch(Exception):
    """A value of the wrong type; the node is what stood there."""

    def __init__(self, path: str, kind: Kind | Count, node: Node) -> None:
        super().__init__(path)
        self.path, self.kind, self.node = path, kind, node

    def __str__(self) -> str:
        got = _type_name(self.node)
        if self.kind in LISTS or self.kind is Count.MANY:
            return f"'{self.path}': source data must be an array or slice, got {got}"
        if self.kind in (Kind.MAP, Kind.DURATIONS, Kind.HEADERS, Kind.OBJECT) or isinstance(self.kind, Count):
            return f"'{self.path}' expected a map, got '{got}'"
        return f"'{self.path}' expected type '{_WANTED.get(self.kind, 'string')}', got unconvertible type '{got}'"


def _type_name(node: Node) -> str:
    if isinstance(node, Scalar):
        return _GO_TYPES.get(type(node.value), "nil")
    return "map" if isinstance(node, Table) else "slice"


class _Decoder:
    def __init__(self, document: Document) -> None:
        self._document = document
        self.decoded = Decoded()
        self.faults: list[str] = []

    # --- keys of the configuration --------------------------------------------------------------------------------

    def read_object(self, table: Table, path: str, written: str) -> None:
        """`path` leads to known keys; `written` is the same in the operator's spelling."""
        seen: dict[str, Entry] = {}
        for entry in _present(table):
            name = entry.key.lower()
            where = f"{path}.{name}" if path else name
            shown = f"{written}.{entry.key}" if written else entry.key
            if name not in schema.objects().get(path, ()):
                self._unknown(written, entry, schema.objects()[path], schema.known_keys())
            elif where in schema.objects():
                self._read_nested(entry, where, shown, again=name in seen)
            else:
                self._read_key(where, entry, shown, seen.get(name))
            seen.setdefault(name, entry)

    def _read_nested(self, entry: Entry, where: str, shown: str, *, again: bool) -> None:
        node = entry.node
        if isinstance(node, Items) and len(node.nodes) == 1:
            node = node.nodes[0]
        if again or not isinstance(node, Table):
            got = "slice" if again else _type_name(node)
            self._fault(f"'{shown}' expected a map, got '{got}'", entry.offset, "expected one block")
        else:
            self.read_object(node, where, shown)

    def _read_key(self, where: str, entry: Entry, shown: str, before: Entry | None) -> None:
        key = schema.known_keys()[schema.ALIASES.get(where, where)]
        held = self.decoded.settings.get(key.path)
        if held is not None and key.kind not in LISTS:
            first = self._document.place(before.offset) if before else held.place
            self._fault(f"'{shown}' is set twice", entry.offset, f"first at {first}")
            return
        so_far = held.value if held is not None and isinstance(held.value, list) else []
        try:
            if key.kind in _SHAPE_OF:
                first_number = None if where != key.path and not so_far else len(so_far)
                value: object = self._definitions(_SHAPE_OF[key.kind], key.kind, entry.node, shown, first_number)
            else:
                value = self._value(key.kind, entry.node, shown)
        except _Mismatch as mismatch:
            self._mismatch(mismatch)
            return
        if isinstance(value, list):
            value = so_far + value
        self.decoded.settings[key.path] = Setting(value, held.place if held else self._document.place(entry.offset))

    def _unknown(self, parent: str, entry: Entry, known: Iterable[str], everywhere: Iterable[str] = ()) -> None:
        shown, name, names = f"{parent}.{entry.key}" if parent else entry.key, entry.key.lower(), sorted(known)
        if "." in name and name in everywhere:
            outer, _, inner = name.rpartition(".")
            hint = f"written as {outer} {{ {inner} = ... }}"
        elif close := schema.FORMER.get(shown.lower()) or nearest(name, names, everywhere):
            hint = f"nearest known key: {close if '.' in close or not parent else f'{parent}.{close}'}"
        elif isinstance(entry.node, Table) and "name" in names:
            hint = f'blocks have no labels; inside it, write name = "{entry.key}"'
        else:
            hint = f"known here: {', '.join(names)}" if len(names) <= _SHORT_LIST else ""
        self._fault(f"invalid config key {shown}", entry.offset, hint)

    def _mismatch(self, mismatch: _Mismatch) -> None:
        self._fault(str(mismatch), mismatch.node.offset, f"expected {mismatch.kind}")

    def _fault(self, text: str, offset: int, hint: str = "") -> None:
        self.faults.append(f"{text} ({self._document.place(offset)}{'; ' if hint else ''}{hint})")

    # --- values ---------------------------------------------------------------------------------------------------

    def _value(self, kind: Kind, node: Node, shown: str) -> object:
        """Raises `_Mismatch`; other faults are collected."""
        match kind:
            case Kind.OBJECT:
                return plain(_table(kind, node, shown))
            case Kind.OBJECTS:
                return [plain(item) for item in _tables(kind, node, shown)]
            case Kind.TEXTS | Kind.HOSTS:
                return self._texts(kind, node, shown)
            case Kind.MAP:
                return self._by_name(kind, node, shown, lambda item, path: _text(Kind.TEXT, item, path))
            case Kind.DURATIONS:
                return self._by_name(kind, node, shown, self._duration)
            case Kind.HEADERS:
                return self._by_name(kind, node, shown, lambda item, path: self._texts(Kind.TEXTS, item, path))
            case Kind.DURATION:
                return self._duration(node, shown)
            case Kind.DURATION_TEXT:
                self._duration(node, shown)
                return plain(node)
            case Kind.ADDRESSES:
                return _text(kind, node, shown)
            case Kind.INT:
                return self._int(node, shown)
            case _:
                return _scalar(kind, node, shown)

    def _int(self, node: Node, shown: str) -> int:
        value = _scalar(Kind.INT, node, shown)
        assert isinstance(value, int)
        if value not in _INT64:
            self._fault(f"'{shown}' is out of range: {value}", node.offset, f"expected {Kind.INT} of at most 64 bits")
        return value

    def _texts(self, kind: Kind, node: Node, shown: str) -> list[str]:
        if not isinstance(node, Items):
            raise _Mismatch(shown, kind, node)
        return [_text(Kind.TEXT, item, f"{shown}[{number}]") for number, item in enumerate(node.nodes)]

    def _by_name(self, kind: Kind | Count, node: Node, shown: str, read: Callable[[Node, str], object]) -> dict[str, object]:
        found: dict[str, object] = {}
        offsets: dict[str, int] = {}
        for entry in _present(_table(kind, node, shown)):
            where = f"{shown}[{entry.key}]"
            first = offsets.setdefault(entry.key, entry.offset)
            if first != entry.offset:
                self._fault(f"'{where}' is set twice", entry.offset, f"first at {self._document.place(first)}")
            found[entry.key] = read(entry.node, where)
        return found

    def _duration(self, node: Node, shown: str) -> float:
        text = _text(Kind.DURATION, node, shown)
        try:
            duration = Duration.parse(text)
            if int(duration) not in _INT64:
                raise InvalidDuration(f'time: invalid duration "{text}"')
        except InvalidDuration as error:
            self._fault(f'{shown}: invalid duration: "{text}": {error}', node.offset, f"expected {Kind.DURATION}")
            return 0.0
        return duration.seconds

    # --- definitions ----------------------------------------------------------------------------------------------

    def _definitions(
        self, shape: str, kind: Kind | Count, node: Node, shown: str, first_number: int | None
    ) -> list[dict[str, object]]:
        """`first_number` is how messages number the first one; None where a single one needs no number."""
        if isinstance(node, Table) and first_number is None:
            return [self._definition(shape, node, shown)]
        numbered = enumerate(_tables(kind, node, shown), first_number or 0)
        return [self._definition(shape, item, f"{shown}[{number}]") for number, item in numbered]

    def _definition(self, shape: str, table: Table, shown: str) -> dict[str, object]:
        fields, aliases = SHAPES[shape], definitions.ALIASES.get(shape, {})
        unheeded = definitions.NO_EFFECT_YET.get(shape, frozenset())
        found: dict[str, object] = {}
        offsets: dict[str, int] = {}
        for entry in _present(table):
            name = aliases.get(entry.key.lower(), entry.key.lower())
            where = f"{shown}.{entry.key}"
            if name not in fields:
                self._unknown(shown, entry, fields)
                continue
            api_name = definitions.API_NAMES.get((shape, name)) or go_name(name)
            value = self._field(fields[name], entry.node, where, found.get(api_name))
            if name in unheeded:
                self.decoded.warnings.append(f"{where} has no effect yet ({self._document.place(entry.offset)})")
                continue
            self._put(found, offsets, api_name, value, entry, where)
        return found

    def _put(self, found: dict[str, object], offsets: dict[str, int], name: str, value: object, entry: Entry, where: str) -> None:
        """`offsets` tell where the fields in `found` stand first."""
        if name == "Check" and name in found:
            name, value = "Checks", [value]
        first = offsets.setdefault(name, entry.offset)
        held = found.get(name)
        if name in _REPEATABLE and isinstance(held, list) and isinstance(value, list):
            found[name] = held + value
        elif name in found:
            self._fault(f"'{where}' is set twice", entry.offset, f"first at {self._document.place(first)}")
        else:
            found[name] = value

    def _field(self, field_kind: definitions.Field, node: Node, shown: str, before: object) -> object:
        """`before` is what the field was given already."""
        try:
            if isinstance(field_kind, Kind):
                return self._value(field_kind, node, shown)
            return self._nested(field_kind, node, shown, len(before) if isinstance(before, list) else 0)
        except _Mismatch as mismatch:
            self._mismatch(mismatch)
            return None

    def _nested(self, nested: Nested, node: Node, shown: str, first_number: int) -> object:
        if nested.count is Count.MANY:
            return self._definitions(nested.shape, nested.count, node, shown, first_number)
        if nested.count is Count.ONE:
            return self._definition(nested.shape, _table(Count.ONE, node, shown), shown)
        return self._by_name(
            nested.count, node, shown, lambda item, path: self._definition(nested.shape, _table(Count.ONE, item, path), path)
        )


_REPEATABLE: Final = frozenset({"Checks", "Upstreams", "Paths"})


def _present(table: Table) -> Iterable[Entry]:
    """JSON's `null` counts as not given."""
    return (entry for entry in table.entries if not (isinstance(entry.node, Scalar) and entry.node.value is None))


def _table(kind: Kind | Count, node: Node, shown: str) -> Table:
    if isinstance(node, Items) and len(node.nodes) == 1:
        node = node.nodes[0]
    if not isinstance(node, Table):
        raise _Mismatch(shown, kind, node)
    return node


def _tables(kind: Kind | Count, node: Node, shown: str) -> list[Table]:
    if isinstance(node, Table):
        return [node]
    if not isinstance(node, Items):
        raise _Mismatch(shown, kind, node)
    for number, item in enumerate(node.nodes):
        if not isinstance(item, Table):
            raise _Mismatch(f"{shown}[{number}]", Count.ONE, item)
    return [item for item in node.nodes if isinstance(item, Table)]


def _text(kind: Kind, node: Node, shown: str) -> str:
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        raise _Mismatch(shown, kind, node)
    return node.value


def _scalar(kind: Kind, node: Node, shown: str) -> object:
    value = node.value if isinstance(node, Scalar) else None
    wanted: type = {Kind.BOOL: bool, Kind.INT: int, Kind.FLOAT: float}.get(kind, str)
    if wanted is float and type(value) is int:
        return float(value)
    if wanted is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if type(value) is not wanted:
        raise _Mismatch(shown, kind, node)
    return value


def _bool_of(text: str) -> bool:
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError(text)
