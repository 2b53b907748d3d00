"""Flags as Go programs read them, their mistakes and their help pages."""

import pytest

from discovery.cli import flags as f
from discovery.cli.flags import Command, Flag, Kind, Parsed
from discovery.model.duration import Duration

COMMAND = Command("kv get [options] KEY", "Shows a value.\n\n    $ discovery kv get a")
FLAGS = (
    Flag("stale", Kind.BOOL, "Ask any server.", group=f.HTTP_OPTIONS),
    Flag("separator", Kind.TEXT, "What stands between the parts of a `key`.", default="/"),
    Flag("n", Kind.INT, "How many.", default=1, metavar="number"),
    Flag("flags", Kind.UINT),
    Flag("wait", Kind.DURATION, default=Duration.parse("5s")),
    Flag("tag", Kind.LIST),
    Flag("meta", Kind.PAIRS),
)


def parse(*arguments: str) -> Parsed:
    return f.parse(COMMAND, FLAGS, arguments)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The first line of what is told."""
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (1, "")
    first, _, rest = err.partition("\n")
    assert rest.startswith("Usage:\n  -flags uint\n")
    return first


def test_defaults() -> None:
    parsed = parse()
    assert (parsed.flag("stale"), parsed.text("separator"), parsed.number("n"), parsed.number("flags")) == (False, "/", 1, 0)
    assert (parsed.duration("wait"), parsed.texts("tag"), parsed.pairs("meta")) == (Duration.parse("5s"), (), {})
    assert (parsed.rest, parsed.given, parsed.typed) == ((), frozenset(), ())


@pytest.mark.parametrize("dashes", ["-", "--"])
@pytest.mark.parametrize("equals", [True, False])
def test_values(dashes: str, equals: bool) -> None:
    texts = {"separator": "x", "n": "0x10", "flags": "7", "wait": "1m", "tag": "a", "meta": "k=v=w"}
    arguments = []
    for name, text in texts.items():
        arguments += [f"{dashes}{name}={text}"] if equals else [f"{dashes}{name}", text]
    parsed = parse(*arguments, "rest")
    assert (parsed.text("separator"), parsed.number("n"), parsed.number("flags")) == ("x", 16, 7)
    assert (parsed.duration("wait"), parsed.texts("tag"), parsed.pairs("meta")) == (Duration.parse("1m"), ("a",), {"k": "v=w"})
    assert parsed.rest == ("rest",)
    assert parsed.given == texts.keys()
    assert parsed.typed == tuple(texts.items())


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("-stale", True),
        ("-stale=true", True),
        ("-stale=1", True),
        ("-stale=T", True),
        ("-stale=false", False),
        ("-stale=0", False),
    ],
)
def test_switches(argument: str, value: bool) -> None:
    assert parse(argument).flag("stale") is value


def test_a_switch_takes_no_value_after_a_space() -> None:
    parsed = parse("-stale", "false", "-n", "2")
    assert (parsed.flag("stale"), parsed.number("n"), parsed.rest) == (True, 1, ("false", "-n", "2"))


def test_the_last_of_a_flag_counts_and_lists_collect() -> None:
    parsed = parse("-n=1", "-n=2", "-tag=a", "-tag", "b", "-meta=a=1", "-meta=b=2", "-meta=a=3", "-stale", "-stale=false")
    assert (parsed.number("n"), parsed.texts("tag"), parsed.flag("stale")) == (2, ("a", "b"), False)
    assert parsed.pairs("meta") == {"a": "3", "b": "2"}


def test_one_parse_leaves_no_trace_for_the_next() -> None:
    parse("-tag=a", "-meta=a=1")
    assert (parse().texts("tag"), parse().pairs("meta")) == ((), {})


@pytest.mark.parametrize(
    ("arguments", "rest"),
    [
        (("-n=2", "a", "-n=3"), ("a", "-n=3")),
        (("-n=2", "--", "-n=3"), ("-n=3",)),
        (("-n=2", "-", "b"), ("-", "b")),
        (("", "b"), ("", "b")),
    ],
)
def test_flags_end_at_the_first_argument(arguments: tuple[str, ...], rest: tuple[str, ...]) -> None:
    assert parse(*arguments).rest == rest


def test_values_may_look_like_anything() -> None:
    parsed = parse("-separator", "-n", "-tag=", "-tag", "--")
    assert (parsed.text("separator"), parsed.texts("tag")) == ("-n", ("", "--"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-bogus",), "flag provided but not defined: -bogus"),
        (("--bogus=1",), "flag provided but not defined: -bogus"),
        (("-n",), "flag needs an argument: -n"),
        (("-=1",), "bad flag syntax: -=1"),
        (("---n",), "bad flag syntax: ---n"),
        (("-stale=maybe",), 'invalid boolean value "maybe" for -stale: parse error'),
        (("-n=many",), 'invalid value "many" for flag -n: parse error'),
        (("-n=1.5",), 'invalid value "1.5" for flag -n: parse error'),
        (("-n=9223372036854775808",), 'invalid value "9223372036854775808" for flag -n: value out of range'),
        (("-flags=-1",), 'invalid value "-1" for flag -flags: parse error'),
        (("-flags=18446744073709551616",), 'invalid value "18446744073709551616" for flag -flags: value out of range'),
        (("-wait=soon",), 'invalid value "soon" for flag -wait: parse error'),
        (("-meta=k",), 'invalid value "k" for flag -meta: Missing "=" value in argument: k'),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str) -> None:
    assert refusal(capsys, *arguments) == message


def test_the_list_after_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    refusal_text = f.flag_list(FLAGS)
    assert refusal_text == (
        "Usage:\n"
        "  -flags uint\n    \t\n"
        "  -meta key=value\n    \t\n"
        "  -n number\n    \tHow many. (default 1)\n"
        '  -separator string\n    \tWhat stands between the parts of a key. (default "/")\n'
        "  -stale\n    \tAsk any server.\n"
        "  -tag value\n    \t\n"
        "  -wait duration\n    \t (default 5s)"
    )
    with pytest.raises(SystemExit):
        f.refuse("no", FLAGS)
    assert capsys.readouterr().err == f"no\n{refusal_text}\n"


@pytest.mark.parametrize("arguments", [("-h",), ("-help",), ("--help",), ("-n=2", "a", "-h"), ("-bogus", "--help")])
def test_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/discovery"])
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    out, err = capsys.readouterr()
    assert (caught.value.code, err) == (0, "")
    assert out == (
        "Usage: discovery kv get [options] KEY\n\n"
        "  Shows a value.\n\n      $ discovery kv get a\n\n"
        "HTTP API Options\n\n  -stale\n     Ask any server.\n\n"
        "Command Options\n\n  -flags=<uint>\n\n  -meta=<key=value>\n\n  -n=<number>\n     How many.\n\n"
        "  -separator=<string>\n     What stands between the parts of a `key`.\n\n  -tag=<value>\n\n  -wait=<duration>\n"
    )


def test_no_help_after_two_dashes() -> None:
    assert parse("--", "-h").rest == ("-h",)


def test_long_help_is_wrapped() -> None:
    page = f.help_page(COMMAND, [Flag("x", help="word " * 40)])
    assert all(len(line) <= 72 for line in page.splitlines())
    assert page.count("word") == 40


@pytest.mark.parametrize(
    ("called", "name"), [("/usr/bin/consul", "consul"), ("discovery", "discovery"), ("/x/discovery/__main__.py", "discovery")]
)
def test_the_program_goes_by_the_name_it_was_called_with(monkeypatch: pytest.MonkeyPatch, called: str, name: str) -> None:
    monkeypatch.setattr("sys.argv", [called])
    assert f.program() == name
