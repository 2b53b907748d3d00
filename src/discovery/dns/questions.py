"""When two questions, as bytes, are the same one.

Clients vary what does not matter: the id, the case of the name (resolvers do that on purpose, so that forged replies stand
out), and EDNS options such as cookies. What is left is the key under which an answer is kept; its name is in lower case.
"""

from typing import Final, NamedTuple

from .wire import HEADER, Name

_COUNTS: Final = slice(4, 12)
_BARE: Final = b"\0\1\0\0\0\0\0\0"
_WITH_OPT: Final = b"\0\1\0\0\0\0\0\1"
_TYPE_AND_CLASS: Final = 4
_OPT_HEAD: Final = b"\0\0\x29"
_OPT_FIXED: Final = 9
"""Bytes of an OPT record before the length of its options."""
_CLIENT_SUBNET: Final = b"\0\x08"


class Question(NamedTuple):
    """`key` is equal for equal questions, `name` is the name as this client has spelt it, without the final zero."""

    key: bytes
    name: bytes

    def spells(self, name: Name) -> bool:
        """Whether the packet has `name` plainly where it seemed to have one, without pointers."""
        return self.name == b"".join(bytes((len(label),)) + label for label in name)


def question_of(packet: bytes, *, any_case: bool = True) -> Question | None:
    """None for packets whose answer must not be shared: those of an unusual shape, and those that tell a client's subnet."""
    counts = packet[_COUNTS]
    end = packet.find(0, HEADER.size)
    rest = end + 1 + _TYPE_AND_CLASS
    if end < 0 or (counts != _BARE and counts != _WITH_OPT):
        return None
    opt = packet[rest:]
    if counts == _BARE:
        if opt or len(packet) != rest:
            return None
    else:
        if not opt.startswith(_OPT_HEAD) or _has_subnet(opt):
            return None
        opt = opt[:_OPT_FIXED] + b"\0\0"
    name = packet[HEADER.size : end]
    # The bytes of lengths are below those of letters, so lower case leaves them alone.
    return Question(b"".join((packet[2 : HEADER.size], name.lower() if any_case else name, packet[end:rest], opt)), name)


def _has_subnet(opt: bytes) -> bool:
    """Also true for options that are not laid out as they should be."""
    place, end = _OPT_FIXED + 2, len(opt)
    if end < place or int.from_bytes(opt[_OPT_FIXED:place]) != end - place:
        return True
    while place < end:
        if place + 4 > end or opt[place : place + 2] == _CLIENT_SUBNET:
            return True
        place += 4 + int.from_bytes(opt[place + 2 : place + 4])
    return place != end


def respelt(answer: bytes, question: Question) -> bytes:
    """An answer without its id, kept for `question.key`, with the name as the client has spelt it."""
    name = question.name
    end = _NAME_IN_ANSWER + len(name)
    return answer if answer[_NAME_IN_ANSWER:end] == name else answer[:_NAME_IN_ANSWER] + name + answer[end:]


_NAME_IN_ANSWER: Final = HEADER.size - 2
