"""How refusals are worded when they pass through layers."""

from discovery.model.errors import RequestFailed


class explained:
    """Put words around the text of a refusal from within."""

    __slots__ = ("_after", "_before")

    def __init__(self, before: str, after: str = "") -> None:
        self._before = before
        self._after = after

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RequestFailed):
            raise RequestFailed(f"{self._before}{error.text}{self._after}") from None
