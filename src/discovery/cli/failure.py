"""How a command says that it could not do its work."""


class Failed(Exception):
    """The text goes to stderr, `code` is the exit code."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


class Misused(Failed):
    """Arguments that do not fit; the help page follows the text."""


def file_error(operation: str, error: OSError) -> str:
    """`open NAME: no such file or directory`, as Go words it."""
    reason = error.strerror or type(error).__name__
    return f"{operation} {error.filename}: {reason[0].lower()}{reason[1:]}"
