"""docopt with helpful messages.

docopt says that a command line does not fit, but not why. ``parse`` lets it decide.
When docopt refuses, ``parse`` finds the word that does not fit, and the nearest one
that would.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from localtunnel.errors import UsageError

_OPTION_LINE = re.compile(r"^ +(?:(-\w)[ ,]+)?(--[\w-]+)(?:=(\S+))?", re.MULTILINE)
_PROGRAM = re.compile(r"lt-[a-z]+(?: (?:token|tunnels|fingerprint|check|login|logout)\b)?")
_REPEATED = re.compile(r"^ +(--[\w-]+=\S+) .*\bMay be repeated\.", re.MULTILINE)
NOT_UNDERSTOOD = "The command line was not understood."

NOTHING_LIKE_IT = "."
"""The end of a sentence without a suggestion."""

NONE: Mapping[str, str] = MappingProxyType({})
"""No command with a text of its own."""

NEAR = 0.6
"""How similar a suggestion must be, as difflib measures it: its own default."""


def parse(
    text: str,
    argv: Sequence[str],
    commands: Sequence[str] = (),
    verbs: Sequence[str] = (),
    first_words: Mapping[str, str] = NONE,
) -> Mapping[str, Any]:
    """Return docopt's mapping for ``argv``; a flag that was not given is None or False.

    ``text`` is the docopt text, with a line of its own for every long option; one whose
    line says "May be repeated." comes as a list. ``commands`` are the command words in
    it, and ``verbs`` those that follow a command. ``first_words`` are the commands with
    a text of their own, which have to come first, each with an example. ``--help``
    anywhere overrides the rest of the line. Raises ``UsageError`` with a sentence and
    the short usage.
    """
    from docopt import DocoptExit, docopt

    if _asks_for_help(argv):
        return {"--help": True}
    sentence = _of_another_tunnel(text, argv)
    if sentence is not None:
        raise refusal(text, sentence)
    try:
        arguments: Mapping[str, Any] = docopt(_with_repetitions(text), list(argv), default_help=False)
    except DocoptExit:
        sentence = _explain(text, argv, commands, verbs, first_words) or NOT_UNDERSTOOD
    else:
        target = arguments.get("<target>")
        if target is None:
            return arguments
        sentence = _not_first(target, first_words) if target in first_words else _of_habit(text, target)
        if sentence is None:
            return arguments
    raise refusal(text, sentence)


def refusal(text: str, sentence: str) -> UsageError:
    """Return the error to raise: the sentence, then the usage lines of the docopt
    text."""
    lines = _usage_lines(text)
    return UsageError(f"{sentence}\n\n{lines}\n\n{_program(text)} --help explains the options.")


def _usage_lines(text: str) -> str:
    return text[text.index("Usage:") :].partition("\n\n")[0]


def _program(text: str) -> str:
    """Return the command that the docopt text is about: ``lt-client``,
    ``lt-server token``."""
    name: str = _PROGRAM.findall(_usage_lines(text))[0]
    return name


def nearest(word: str, words: Sequence[str]) -> str:
    """Return the end of a sentence that suggests the word most similar to ``word``, if
    there is one."""
    from difflib import get_close_matches

    # The hyphens that all options begin with would make short ones alike.
    bare = {candidate.lstrip("-"): candidate for candidate in words}
    found = get_close_matches(word.lstrip("-"), list(bare), n=1, cutoff=NEAR)
    return f"; did you mean {bare[found[0]]}?" if found else NOTHING_LIKE_IT


def _with_repetitions(text: str) -> str:
    """Return ``text`` with the repeatable options in its usage lines, as docopt wants
    them."""
    repeated = "".join(f" [{option}]..." for option in _REPEATED.findall(text))
    return text.replace("[options]", f"[options]{repeated}")


def _asks_for_help(argv: Sequence[str]) -> bool:
    words = argv[: argv.index("--")] if "--" in argv else argv
    return "--help" in words or "-h" in words


def _of_another_tunnel(text: str, argv: Sequence[str]) -> str | None:
    """Return what is wrong with the first option that only another tunnel has, or None.

    This comes before docopt, which accepts the beginning of an option: lt's ``--host``
    would pass for ``--host-header``.
    """
    from localtunnel.cli import migrants

    program = _program(text)
    options, shorts = _options(text)
    words = iter(argv)
    for word in words:
        if word == "--":
            return None
        if not _is_option(word):
            continue
        written = word.partition("=")[0] if word.startswith("--") else word[:2]
        advice = migrants.option(program, written)
        if advice is not None:
            if migrants.is_of(program, "lt", written) and any(re.match("-s", word) for word in argv):
                advice += ". -s is --server here; that of lt is --name"
            return f"{written} is not an option here; {advice}."
        name, value = _option_name(word, options, shorts)
        if options.get(name) is not None and value is None:
            next(words, None)
    return None


def _options(text: str) -> tuple[dict[str, str | None], dict[str, str]]:
    """Return the long options of a docopt text, each with the name of its value, and a
    mapping from short to long."""
    matches = list(_OPTION_LINE.finditer(text))
    return {match[2]: match[3] for match in matches}, {match[1]: match[2] for match in matches if match[1]}


def _explain(
    text: str, argv: Sequence[str], commands: Sequence[str], verbs: Sequence[str], first_words: Mapping[str, str]
) -> str | None:
    """Walk the words as docopt does, and return what is wrong with the first that does
    not fit."""
    options, shorts = _options(text)
    repeated = {option.partition("=")[0] for option in _REPEATED.findall(text)}
    seen: set[str] = set()
    places: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            return "'--' was not understood: no argument here begins with a hyphen, so leave it out."
        if _is_option(word):
            name, value = _option_name(word, options, shorts)
            if name not in options:
                return _unknown_option(name, options)
            metavar = options[name]
            if name in seen and name not in repeated and f"[{name}={metavar}]..." not in text:
                return f"{name} was given twice; give it once."
            seen.add(name)
            if metavar is None and value:
                return f"{name} takes no value."
            if metavar is not None and value is None and next(words, None) in (None, "--"):
                return f"{name} needs a value: {name}={metavar}."
        else:
            places.append(word)
    if verbs:
        return _explain_verb(text, places[1:], verbs)
    if places and places[0] in first_words:
        return _not_first(places[0], first_words)
    return _explain_places(text, places, commands, first_words)


def _is_option(word: str) -> bool:
    return word.startswith("-") and len(word) > 1 and not _is_number(word)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _option_name(word: str, options: Mapping[str, str | None], shorts: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the long name of an option word, completed if it is unambiguous, and the
    value written with it."""
    if not word.startswith("--"):
        return shorts.get(word[:2], word[:2]), word[2:] or None
    name, equals, value = word.partition("=")
    if name not in options:
        longer = [option for option in options if option.startswith(name)]
        name = longer[0] if len(longer) == 1 else name
    return name, value if equals else None


def _unknown_option(name: str, options: Mapping[str, str | None]) -> str:
    longer = sorted(option for option in options if option.startswith(name))
    if len(longer) > 1:
        return f"{name} is the beginning of {' and '.join(longer)}; write it out."
    return f"{name} is not an option{nearest(name, list(options))}"


def _explain_verb(text: str, places: Sequence[str], verbs: Sequence[str]) -> str | None:
    """Return what is wrong with the words behind a command that takes a verb."""
    if not places:
        return f"Say what to do: {', '.join(verbs)}."
    if places[0] not in verbs:
        return f"{places[0]!r} is not a command{nearest(places[0], verbs)}"
    return _explain_arguments(text, *places)


def _explain_arguments(text: str, command: str, *given: str) -> str | None:
    """Return what is wrong with the number of words behind a command, by its usage
    line."""
    line = next(line for line in _usage_lines(text).splitlines() if command in line.split())
    wanted = re.findall(r"<\w+>", line)
    if len(given) < len(wanted):
        return f"{command} needs {wanted[len(given)]}."
    if len(given) > len(wanted):
        return f"{given[len(wanted)]!r} was not understood: only options may follow {' '.join((command, *wanted))}."
    return None


def _of_habit(text: str, word: str) -> str | None:
    """Return the counterpart of a command that only other tunnels have, or None."""
    from localtunnel.cli import migrants

    advice = migrants.word(_program(text), word)
    return advice and f"{word!r} is not a command here; {advice}."


def _not_first(word: str, first_words: Mapping[str, str]) -> str:
    return f"{word} has to be the first word: {first_words[word]}."


def _explain_places(
    text: str, places: Sequence[str], commands: Sequence[str], first_words: Mapping[str, str]
) -> str | None:
    """Return what is wrong with the words that are not options."""
    offered = (*commands, *first_words)
    takes_target = "<target>" in text
    if not places:
        return None
    if not takes_target and places[0] in commands:
        return _explain_arguments(text, *places)
    if not takes_target:
        if (sentence := _of_habit(text, places[0])) is not None:
            return sentence
        if (offer := nearest(places[0], offered)) != NOTHING_LIKE_IT:
            return f"{places[0]!r} is not a command{offer}"
        return f"{places[0]!r} was not understood: only options may be given."
    rest = places[1:] if places[0] in commands else places
    if len(rest) < 2:
        return None
    if rest is places and not any(character in places[0] for character in ":.0123456789"):
        return _of_habit(text, places[0]) or f"{places[0]!r} is not a command{nearest(places[0], offered)}"
    return f"{rest[1]!r} is one word too many: there is one target, {rest[0]!r}."
