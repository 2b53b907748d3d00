"""The MessagePack dialect that Consul's RPC speaks, between bytes and msgspec Structs.

A Go struct travels as a map from field name to value, sorted by name, a nil slice, map or pointer as nil. Agents of Consul
write text and byte slices alike in the old "raw" family, and read the newer families as well: text and bytes are written here as
what they are. Go's decoder is guided by the type it fills, and so is this one: a missing or nil field becomes the zero value, an
unknown one is skipped, raw bytes become text or bytes as the field demands. What our own agents write, msgspec reads by itself;
what it does not take goes through a plan of small converters, compiled once for every type.
"""

from collections.abc import Callable, Hashable, Iterator
from functools import cache
from typing import Any, Final, NoReturn, TypeVar, cast

import msgpack
import msgspec
from msgspec import inspect

T = TypeVar("T")

Converter = Callable[[Any], Any]
"""Turns one unpacked value (text still as bytes) into what its type asks for."""


class DecodeError(ValueError):
    """The bytes are no MessagePack object, or do not fit the type; the text names the field."""


def encode(value: object) -> bytes:
    """A Struct, or a bare bool, number, text, list or map, as agents of Consul read it."""
    return _encoder.encode(value)


def encode_in_parts(value: object) -> Iterator[bytes]:
    """As `encode`, for a Struct that may hold one very long list: bit by bit, so that a caller can do other things in between."""
    name = next((name for name in getattr(value, "__struct_fields__", ()) if _is_long(getattr(value, name))), None)
    around = encode(msgspec.structs.replace(cast(msgspec.Struct, value), **{name: _HERE})) if name is not None else b""
    if name is None or around.count(_ENCODED_HERE) != 1:
        yield encode(value)
        return
    items = getattr(value, name)
    before, _, after = around.partition(_ENCODED_HERE)
    yield before + _array_header(len(items))
    for start in range(0, len(items), _PART):
        part = items[start : start + _PART]
        yield encode(part)[len(_array_header(len(part))) :]
    yield after


def _is_long(value: object) -> bool:
    return type(value) is list and len(value) > _PART


def _array_header(count: int) -> bytes:
    if count < 16:
        return bytes((0x90 | count,))
    return b"\xdc" + count.to_bytes(2, "big") if count < 1 << 16 else b"\xdd" + count.to_bytes(4, "big")


def _plain(value: object) -> int | str:
    """Subclasses of int and str, such as durations, are written as what they are."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"no Go wire form for {type(value).__name__}")


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=_plain, order="sorted")
_PART: Final = 2048
"""Items of a list that are encoded in one go."""
_HERE: Final = "\x00a long list belongs here\x00"
_ENCODED_HERE: Final = _encoder.encode(_HERE)


def decode(data: bytes, form: type[T]) -> T:
    """Read one object as the given type. Raises `DecodeError`."""
    return cast(T, decoder(cast(Hashable, form))(data))


@cache
def decoder(form: Hashable) -> Callable[[bytes], Any]:
    """The compiled reader of a type; look it up once where the same type is read again and again."""
    read = planned_decoder(form)
    quick: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(cast(type, form), dec_hook=_typed)

    def read_quickly(data: bytes) -> Any:
        try:
            return quick.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return read(data)

    return read_quickly


def planned_decoder(form: Hashable) -> Callable[[bytes], Any]:
    """The reader of a type that needs no help."""
    info = inspect.type_info(form)
    convert, zero = _converter(info), _zero(info)

    def read(data: bytes) -> Any:
        value = unpack(data)
        return zero() if value is None else convert(value)

    return read


def _typed(kind: type, value: Any) -> Any:
    return value if kind is object else kind(value)


def unpack(data: bytes) -> Any:
    """One object without a type: maps, lists, numbers, and text as bytes. Raises `DecodeError`."""
    try:
        return msgpack.unpackb(data, raw=True, strict_map_key=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise DecodeError(f"invalid message: {error or type(error).__name__}") from error


def _mismatch(expected: str, value: object) -> NoReturn:
    raise DecodeError(f"expected {expected}, got {type(value).__name__}")


def _text(value: object) -> str:
    if type(value) is not bytes:
        _mismatch("string", value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        # Go strings hold any bytes, for instance a check's output; our Structs hold Unicode, as JSON does.
        return value.decode(errors="replace")


def _bytes(value: object) -> bytes:
    if type(value) is bytes:
        return value
    _mismatch("bytes", value)


def _integer(value: object) -> int:
    if type(value) is int:
        return value
    _mismatch("integer", value)


def _unsigned(value: object) -> int:
    number = _integer(value)
    if number < 0:
        raise DecodeError(f"expected unsigned integer, got {number}")
    return number


def _boolean(value: object) -> bool:
    if type(value) is bool:
        return value
    _mismatch("bool", value)


def _number(value: object) -> float:
    if type(value) is float or type(value) is int:
        return float(value)
    _mismatch("float", value)


def _anything(value: object) -> object:
    """A value of no declared type: raw bytes are taken as text wherever they are valid text."""
    if type(value) is bytes:
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    if type(value) is list:
        return [_anything(item) for item in value]
    if type(value) is dict:
        return {_anything(key): _anything(item) for key, item in value.items()}
    return value


_SCALARS: Final[dict[type[inspect.Type], tuple[Converter, Callable[[], object]]]] = {
    inspect.AnyType: (_anything, lambda: None),
    inspect.NoneType: (lambda _: None, lambda: None),
    inspect.BoolType: (_boolean, bool),
    inspect.IntType: (_integer, int),
    inspect.FloatType: (_number, float),
    inspect.StrType: (_text, str),
    inspect.BytesType: (_bytes, bytes),
}
"""For every scalar type its converter and its zero value."""

_COLLECTIONS: Final[dict[type[inspect.Type], type]] = {
    inspect.ListType: list,
    inspect.VarTupleType: tuple,
    inspect.SetType: set,
    inspect.FrozenSetType: frozenset,
}


def _converter(info: inspect.Type) -> Converter:
    if isinstance(info, inspect.Metadata):
        return _converter(info.type)
    if isinstance(info, inspect.IntType) and info.ge is not None and info.ge >= 0:
        return _unsigned
    if type(info) in _SCALARS:
        return _SCALARS[type(info)][0]
    if isinstance(info, inspect.StructType):
        return _struct_converter(info.cls)
    if isinstance(info, inspect.ListType | inspect.VarTupleType | inspect.SetType | inspect.FrozenSetType):
        return _sequence_converter(_COLLECTIONS[type(info)], info.item_type)
    if isinstance(info, inspect.DictType):
        return _map_converter(info.key_type, info.value_type)
    if isinstance(info, inspect.UnionType):
        return _union_converter(info)
    if isinstance(info, inspect.EnumType | inspect.LiteralType):
        return _choice_converter(info)
    if isinstance(info, inspect.CustomType):
        return _anything if info.cls is object else _scalar_subclass_converter(info.cls)
    raise TypeError(f"no Go wire form for {info}")


def _zero(info: inspect.Type) -> Callable[[], object]:
    """What makes the value that stands for a missing or nil one."""
    if isinstance(info, inspect.Metadata):
        return _zero(info.type)
    if type(info) in _SCALARS:
        return _SCALARS[type(info)][1]
    if type(info) in _COLLECTIONS:
        return _COLLECTIONS[type(info)]
    if isinstance(info, inspect.DictType):
        return dict
    if isinstance(info, inspect.StructType):
        convert = _struct_converter(info.cls)
        return lambda: convert({})
    if isinstance(info, inspect.UnionType) and info.includes_none:
        return lambda: None
    if isinstance(info, inspect.EnumType | inspect.LiteralType):
        convert = _choice_converter(info)
        return lambda: convert(b"")
    if isinstance(info, inspect.CustomType):
        return (lambda: None) if info.cls is object else cast(Callable[[], object], info.cls)
    raise TypeError(f"no zero value for {info}")


def _sequence_converter(collection: type, item: inspect.Type) -> Converter:
    convert, zero = _converter(item), _zero(item)

    def sequence(value: object) -> object:
        if type(value) is not list:
            _mismatch("list", value)
        items = [zero() if entry is None else convert(entry) for entry in value]
        return items if collection is list else collection(items)

    return sequence


def _map_converter(key: inspect.Type, item: inspect.Type) -> Converter:
    convert_key, convert, zero = _converter(key), _converter(item), _zero(item)

    def mapping(value: object) -> object:
        if type(value) is not dict:
            _mismatch("map", value)
        return {convert_key(name): zero() if entry is None else convert(entry) for name, entry in value.items()}

    return mapping


def _union_converter(info: inspect.UnionType) -> Converter:
    """An optional type is read as the type itself, since nil never reaches a converter."""
    alternatives = [part for part in info.types if not isinstance(part, inspect.NoneType)]
    return _converter(alternatives[0]) if len(alternatives) == 1 else _anything


def _scalar_subclass_converter(cls: type) -> Converter:
    for scalar, convert in ((int, _integer), (str, _text)):
        if issubclass(cls, scalar):
            return lambda value: cls(convert(value))
    raise TypeError(f"no Go wire form for {cls.__name__}")


def _choice_converter(info: inspect.EnumType | inspect.LiteralType) -> Converter:
    values = info.values if isinstance(info, inspect.LiteralType) else tuple(item.value for item in info.cls)
    make: Converter = info.cls if isinstance(info, inspect.EnumType) else lambda plain: plain

    def choice(value: object) -> object:
        plain = _anything(value)
        if plain not in values:
            raise DecodeError(f"expected one of {values}, got {plain!r}")
        return make(plain)

    return choice


@cache
def _struct_plan(cls: type[msgspec.Struct]) -> tuple[dict[bytes, tuple[str, Converter, bool]], list[tuple[str, Any]]]:
    """For a Struct: wire name -> (attribute, converter, may be None), and the zero values of what has no default."""
    info = cast(inspect.StructType, inspect.type_info(cls))
    plan: dict[bytes, tuple[str, Converter, bool]] = {}
    required: list[tuple[str, Any]] = []
    for field in info.fields:
        nullable = isinstance(field.type, inspect.UnionType) and field.type.includes_none
        plan[field.encode_name.encode()] = (field.name, _converter(field.type), nullable)
        if field.required:
            required.append((field.name, _zero(field.type)))
    return plan, required


def _struct_converter(cls: type[msgspec.Struct]) -> Converter:
    plan: dict[bytes, tuple[str, Converter, bool]] | None = None
    required: list[tuple[str, Any]] = []

    def struct(value: object) -> object:
        nonlocal plan, required
        if plan is None:
            # Only now, because a type may hold itself and would never be compiled to its end.
            plan, required = _struct_plan(cls)
        if type(value) is not dict:
            _mismatch(cls.__name__, value)
        values: dict[str, object] = {}
        for key, item in value.items():
            field = plan.get(key)
            if field is None:
                continue
            name, convert, nullable = field
            if item is not None:
                try:
                    values[name] = convert(item)
                except DecodeError as error:
                    raise DecodeError(f"{cls.__name__}.{key.decode()}: {error}") from None
            elif nullable:
                values[name] = None
        for name, zero in required:
            if name not in values:
                values[name] = zero()
        return cls(**values)

    return struct
