"""How refusals are worded when they pass through layers, or come several at once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from discovery.model.errors import RequestFailed


@contextmanager
def explained(before: str, after: str = "") -> Iterator[None]:
    """Put words around the text of a refusal from within."""
    try:
        yield
    except RequestFailed as refusal:
        raise RequestFailed(f"{before}{refusal.text}{after}") from None


def several_errors(problems: Sequence[str]) -> str:
    """The list form that Consul gives to errors found together."""
    count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
    return f"{count} occurred:\n" + "".join(f"\t* {problem}\n" for problem in problems) + "\n"
