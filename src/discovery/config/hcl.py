"""HCL sources, with positions: pyhcl's lexer and parser, mended.

pyhcl reads the dialects of several programs; Consul's configuration is HCL 1. So the grammar here is narrowed to HCL 1 (no
expressions, functions, `key: value`), objects keep their repeated keys instead of merging them, and strings, heredocs and
numbers mean what HCL 1 says they mean. Rules that are not overridden below come from pyhcl.

PLY takes lexer rules in the order of their line numbers, which is meaningless across two files. Therefore the patterns here
exclude each other and the ones they stand beside.
"""

import re
import string
from typing import Any, Final, NoReturn

from hcl.lexer import Lexer
from hcl.parser import HclParser
from hcl.ply import lex, yacc

from .tree import ConfigError, Entry, Items, Node, Scalar, Table, place, whole

_ESCAPES: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"'}
_CODE_POINTS: Final = {"u": 4, "U": 8, "x": 2}
_OCTAL_DIGITS: Final = 3
_MAX_DIGITS: Final = 64
_BOM: Final = "\ufeff"
_WORDS: Final = {"EQUAL": "'='", "COMMA": "','", "COLON": "':'", "PERIOD": "'.'"}
_BEFORE_VALUE: Final = ("EQUAL", "LEFTBRACKET")
_CLOSING: Final = {"{": "}", "[": "]"}
_UNQUOTED: Final = re.compile(r"[^\s,{}\[\]#=\"]+")


class _Fault(Exception):
    """What is wrong at an offset; `parse` adds the file's name."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset


def parse(name: str, text: str) -> Table:
    """Raises `ConfigError`."""
    try:
        return _parse(text)
    except _Fault as fault:
        raise ConfigError(f"failed to parse {name}: {fault} ({place(name, text, fault.offset)})") from None


def _parse(text: str) -> Table:
    if text.startswith(_BOM):
        raise _Fault(0, "the file begins with a byte order mark; save it as UTF-8 without one")
    return Table(_Parser(text).entries(), 0)


# pyhcl comes without types, so its classes are unknown ones to derive from, here and below.
class _Lexer(Lexer):  # type: ignore[misc]
    """Tokens of HCL 1. `open_brackets` holds the offsets of those not yet closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open_brackets: list[int] = []

    def t_BOOL(self, t: Any) -> Any:
        r"(?:true|false)(?![\w.-])"
        t.value = t.value == "true"
        return t

    def t_IDENTIFIER(self, t: Any) -> Any:
        r"(?!(?:true|false)(?![\w.-]))[^\W\d][\w.-]*"
        return t

    def t_FLOAT(self, t: Any) -> Any:
        r"-?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d+)?(?![\w.])"
        t.value = float(t.value)
        return t

    def t_hexnumber(self, t: Any) -> Any:
        r"-?0[xX][0-9a-fA-F]+(?![\w.])"
        t.value = int(t.value, base=16)
        t.type = "NUMBER"
        return t

    def t_intnumber(self, t: Any) -> Any:
        r"-?\d+(?![\w.])"
        digits = t.value.lstrip("-")
        octal = len(digits) > 1 and digits.startswith("0")
        if len(digits) > _MAX_DIGITS:
            raise _Fault(t.lexpos, "this number has too many digits")
        if octal and not set(digits) <= set(string.octdigits):
            raise _Fault(t.lexpos, f"{t.value} begins with 0 and so is octal, but has digits above 7")
        t.value = int(t.value, base=8 if octal else 10)
        t.type = "NUMBER"
        return t

    def t_EPLUS(self, t: Any) -> Any:
        r"(?!)"

    def t_EMINUS(self, t: Any) -> Any:
        r"(?!)"

    def t_string(self, t: Any) -> Any:
        r'"'
        t.type = "STRING"
        t.value, t.lexer.lexpos = _string(t.lexer.lexdata, t.lexpos)
        return t

    def t_heredoc(self, t: Any) -> Any:
        r"<<-?[^\W_]\w*[ \t]*\r?\n"
        t.type = "STRING"
        t.value, t.lexer.lexpos = _heredoc(t.lexer.lexdata, t.lexpos, t.value)
        return t

    def t_tabbedheredoc(self, t: Any) -> Any:
        r"(?!)"

    def t_LEFTBRACE(self, t: Any) -> Any:
        r"\{"
        return self._opened(t)

    def t_LEFTBRACKET(self, t: Any) -> Any:
        r"\["
        return self._opened(t)

    def t_RIGHTBRACE(self, t: Any) -> Any:
        r"\}"
        return self._closed(t)

    def t_RIGHTBRACKET(self, t: Any) -> Any:
        r"\]"
        return self._closed(t)

    def _opened(self, t: Any) -> Any:
        self.open_brackets.append(t.lexpos)
        return t

    def _closed(self, t: Any) -> Any:
        if not self.open_brackets:
            raise _Fault(t.lexpos, f"'{t.value}' closes nothing")
        opened = self.open_brackets.pop()
        if _CLOSING[t.lexer.lexdata[opened]] != t.value:
            line = t.lexer.lexdata.count("\n", 0, opened) + 1
            raise _Fault(t.lexpos, f"'{t.value}' stands where '{t.lexer.lexdata[opened]}' of line {line} is still open")
        return t

    t_DIVIDE = r"/(?!\*)"

    def t_COMMENT(self, t: Any) -> Any:
        r"(?:\#|//).*"

    def t_MULTICOMMENT(self, t: Any) -> Any:
        r"/\*(?:.|\n)*?\*/"

    def t_error(self, t: Any) -> NoReturn:
        word = _UNQUOTED.match(t.value)
        if t.value.startswith("/*"):
            raise _Fault(t.lexpos, "this comment has no closing '*/'")
        if t.value.startswith("<<"):
            raise _Fault(t.lexpos, "a heredoc begins with '<<' and a word of letters and digits that ends the line")
        if word and word[0][0].isalnum():
            raise _Fault(
                t.lexpos, f'{word[0]} is neither a number nor quoted; text and durations are written in quotes: "{word[0]}"'
            )
        raise _Fault(t.lexpos, f"unexpected character {t.value[0]!r}")


def _string(text: str, start: int) -> tuple[str, int]:
    """The string that begins with the quote at `start`, and where it ends. `${...}` is taken as it stands, quotes included."""
    parts: list[str] = []
    position = start + 1
    while position < len(text):
        character = text[position]
        if character == '"':
            return "".join(parts), position + 1
        if character == "\n":
            break
        if character == "\\":
            part, position = _escaped(text, position)
        elif text.startswith("${", position):
            end = _interpolation_end(text, position)
            part, position = text[position:end], end
        else:
            part, position = character, position + 1
        parts.append(part)
    raise _Fault(start, "this text has no closing quote on its line")


def _escaped(text: str, position: int) -> tuple[str, int]:
    letter = text[position + 1 : position + 2]
    if letter in _ESCAPES and letter:
        return _ESCAPES[letter], position + 2
    start, length, base = position + 2, _CODE_POINTS.get(letter, 0), 16
    if letter and letter in "01234567":
        start, length, base = position + 1, _OCTAL_DIGITS, 8
    digits = text[start : start + length]
    if not length or len(digits) < length:
        raise _Fault(position, f"unknown escape '\\{letter}'; a backslash itself is written '\\\\'")
    try:
        return whole(chr(int(digits, base))), start + length
    except (ValueError, OverflowError):
        raise _Fault(position, f"'\\{letter}' needs {length} digits of a character's number, not {digits!r}") from None


def _interpolation_end(text: str, start: int) -> int:
    depth = 0
    for position in range(start + 1, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if not depth:
            return position + 1
    raise _Fault(start, "'${' has no closing brace")


def _heredoc(text: str, start: int, opening: str) -> tuple[str, int]:
    """`opening` is the first line. With `<<-` the indent of the closing word is taken off every line, if all have it."""
    indented = opening.startswith("<<-")
    word = opening.strip().removeprefix("<<-" if indented else "<<")
    begin = start + len(opening)
    closing = re.compile(rf"^([ \t]*){re.escape(word)}\r?$", re.MULTILINE).search(text, begin)
    if closing is None:
        raise _Fault(start, f"this heredoc has no line that is just {word}")
    body, indent = text[begin : closing.start()], closing[1]
    lines = body.splitlines(keepends=True)
    if indented and all(line.startswith(indent) for line in lines):
        body = "".join(line.removeprefix(indent) for line in lines)
    return body, closing.end()


# As above: an unknown class, for lack of types in pyhcl.
class _Parser(HclParser):  # type: ignore[misc]
    """The grammar of HCL 1. The docstrings are its rules."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lexer = _Lexer()
        self._tables = yacc.yacc(module=self, start="top", debug=False, optimize=True, errorlog=lex.NullLogger())

    def __dir__(self) -> list[str]:
        """PLY asks for the names of the rules: of pyhcl's only those that HCL 1 has."""
        return [name for name in super().__dir__() if not name.startswith("p_") or name in _RULES]

    def entries(self) -> list[Entry]:
        entries: list[Entry] = self._tables.parse(self._text, lexer=self._lexer)
        return entries

    def p_top(self, p: Any) -> None:
        """
        top : empty
            | objectlist
            | objectlist COMMA
        """
        p[0] = p[1]

    def p_object_0(self, p: Any) -> None:
        "object : LEFTBRACE objectlist RIGHTBRACE"
        p[0] = Table(p[2], p.lexpos(1))

    def p_object_1(self, p: Any) -> None:
        "object : LEFTBRACE objectlist COMMA RIGHTBRACE"
        p[0] = Table(p[2], p.lexpos(1))

    def p_object_2(self, p: Any) -> None:
        "object : LEFTBRACE RIGHTBRACE"
        p[0] = Table([], p.lexpos(1))

    def p_objectkey_0(self, p: Any) -> None:
        """
        objectkey : IDENTIFIER
                  | STRING
        """
        p[0] = p[1], p.lexpos(1)

    def p_objectitem_0(self, p: Any) -> None:
        "objectitem : objectkey EQUAL value"
        p[0] = _entry(p[1], p[3])

    def p_block_0(self, p: Any) -> None:
        "block : objectkey object"
        p[0] = _entry(p[1], p[2])

    def p_block_1(self, p: Any) -> None:
        "block : objectkey block"
        p[0] = _entry(p[1], Table([p[2]], p[2].offset))

    def p_value(self, p: Any) -> None:
        """
        value : scalar
              | object
              | list
        """
        p[0] = p[1]

    def p_scalar(self, p: Any) -> None:
        """
        scalar : NUMBER
               | FLOAT
               | BOOL
               | STRING
        """
        p[0] = Scalar(p[1], p.lexpos(1))

    def p_list_0(self, p: Any) -> None:
        """
        list : LEFTBRACKET listitems RIGHTBRACKET
             | LEFTBRACKET listitems COMMA RIGHTBRACKET
        """
        p[0] = Items(p[2], p.lexpos(1))

    def p_list_1(self, p: Any) -> None:
        "list : LEFTBRACKET RIGHTBRACKET"
        p[0] = Items([], p.lexpos(1))

    def p_listitems_0(self, p: Any) -> None:
        "listitems : value"
        p[0] = [p[1]]

    def p_listitems_1(self, p: Any) -> None:
        "listitems : listitems COMMA value"
        nodes: list[Node] = p[1]
        nodes.append(p[3])
        p[0] = nodes

    def p_error(self, p: Any) -> NoReturn:
        keys = self._keys_without_value()
        if keys and (p is None or p.type != "COLON"):
            name, offset = keys[0]
            raise _Fault(offset, f"{name} needs '=' and a value, or a block in braces")
        if p is not None:
            raise _Fault(p.lexpos, f"unexpected {self._shown(p)}")
        if not self._lexer.open_brackets:
            raise _Fault(len(self._text.rstrip()), "the file ends where a value is expected")
        opened = self._lexer.open_brackets[-1]
        raise _Fault(opened, f"the '{self._text[opened]}' that opens here is never closed")

    def _keys_without_value(self) -> list[tuple[str, int]]:
        """The keys right before the place where the grammar ended: what the parser's stack has at its top."""
        stack = list(self._tables.symstack)
        keys: list[tuple[str, int]] = []
        while stack[-1].type in ("IDENTIFIER", "STRING", "objectkey"):
            symbol = stack.pop()
            keys.insert(0, symbol.value if symbol.type == "objectkey" else (symbol.value, symbol.lexpos))
        is_value = stack[-1].type in _BEFORE_VALUE or [symbol.type for symbol in stack[-2:]] == ["listitems", "COMMA"]
        return [] if is_value else keys

    def _shown(self, token: Any) -> str:
        if token.type == "IDENTIFIER" and token.value.lower() in ("true", "false"):
            return f"{token.value}; it is written {token.value.lower()}"
        if token.type == "IDENTIFIER" and self._text[: token.lexpos].rstrip().endswith(("=", "[", ",")):
            return f'{token.value}; text is written in quotes: "{token.value}"'
        if token.type == "COLON":
            return "':'; HCL writes key = value"
        shown = _WORDS.get(token.type) or (str(token.value).lower() if token.type == "BOOL" else repr(token.value))
        in_list = self._lexer.open_brackets and self._text[self._lexer.open_brackets[-1]] == "["
        return f"{shown}; commas stand between the items of a list" if in_list else shown


def _entry(key: tuple[str, int], node: Node) -> Entry:
    name, offset = key
    return Entry(name, offset, node)


_RULES: Final = frozenset(
    {"p_empty_0", "p_objectlist_0", "p_objectlist_1", "p_objectlist_2", "p_objectitem_1"}
    | {name for name in vars(_Parser) if name.startswith("p_")}
)
