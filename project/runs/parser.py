"""The parser: a short help, the nearest name for a misspelt one, and errors in two lines."""

import argparse
import difflib
import re
import shutil
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from pytorch_lightning.cli import LightningArgumentParser

from project.errors import InputError

COMMON_TRAINER_SETTINGS = ("max_epochs", "accelerator", "devices", "precision", "gradient_clip_val")
"""The Trainer's settings that the short help shows."""


class Parser(LightningArgumentParser):
    """Lightning's parser with the nearest name for a misspelt one, two-line errors and no abbreviations."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if isinstance(ex, InputError):
            raise ex
        raise self._explain(message)

    def _explain(self, message: str) -> InputError:
        """Turn the parser's message into one line of cause and one of remedy."""
        names = [option.lstrip("-") for action in self._actions for option in action.option_strings]
        ask_help = "type --help for all settings"
        unknown = re.match(r"unrecognized arguments: (?:--)?([^\s=]*)", message, re.IGNORECASE)
        # the same mistake in a file of settings, in a section and outside all of them
        unknown = unknown or re.search(r"(?:Group '([\w.]+)' does not accept o|O)ption '([\w.]+)'", message)
        if unknown:
            name = ".".join(group for group in unknown.groups() if group)
            nearest = nearest_name(name, names)
            remedy = f"did you mean {nearest}? Or {ask_help}" if nearest else ask_help
            return InputError(f"there is no setting {name!r}", remedy)
        key_error = re.match(r'Parser key "([\w.]+)":\s*(.*)', message, re.DOTALL)
        if key_error:
            key, detail = key_error.groups()
            action = next((a for a in self._actions if a.dest == key), None)
            given = re.search(r"(?:Got value|Given value): (.*)", detail)
            value = given.group(1).strip() if given else "what was given"
            if getattr(action, "_typehint", None) is None and any(name.startswith(key + ".") for name in names):
                return InputError(f"{key} is a group of settings, not a setting", "type for example --model.depth 3")
            if action is not None:
                choices, kind = describe_type(getattr(action, "_typehint", None))
                alike = difflib.get_close_matches(value, choices, n=1, cutoff=0.4)
                if choices:
                    remedy = f"did you mean {alike[0]}? " if alike else ""
                    return InputError(
                        f"{key} is {value}, which is none of its choices", f"{remedy}Choices: {', '.join(choices)}"
                    )
                shown = example(action, kind)
                remedy = f"type for example --{key} {shown}" if shown else f"leave --{key} out"
                return InputError(f"{key} is {value}, but must be {kind}", remedy)
        lines = [line.strip() for line in message.strip().splitlines()]
        return InputError(" ".join(lines)[:500], ask_help)


class TrainParser(Parser):
    """The parser of a run's settings, with a help that fits on two screens."""

    def format_help(self, formatter: Any = None) -> str:
        """The project's own settings, then the commonest of the Trainer's."""
        columns = min(shutil.get_terminal_size().columns, 140)
        lines = [*textwrap.wrap(self.description or "", columns), ""]
        lines += ["usage: " + (self.prog or "train.py") + " [--config FILE] [--SETTING VALUE ...]", ""]
        lines += ["  --config FILE: settings from a YAML file, over the defaults; may come several times, flags win."]
        lines += ["  --print_config: show all settings as YAML. --help.trainer: all of the Trainer's settings."]
        for title, prefix in (
            ("The run", ""),
            ("The model", "model."),
            ("The data", "data."),
            ("Looking inside", "diagnostics."),
            ("The Trainer", "trainer."),
        ):
            lines += ["", title]
            for action in self._settings(prefix):
                if prefix != "trainer." or action.dest.removeprefix(prefix) in COMMON_TRAINER_SETTINGS:
                    lines += describe_setting(action, columns)
        return "\n".join(lines) + "\n"

    def _settings(self, prefix: str) -> list[argparse.Action]:
        skip = ("help", "config", "print_config", "help.trainer")
        return [
            action
            for action in self._actions
            if action.option_strings
            and action.option_strings[-1].startswith("--" + prefix)
            and (prefix or "." not in action.dest)
            and action.dest not in (*skip, "model", "data", "trainer")
            and action.help != argparse.SUPPRESS
        ]


class TrainerHelp(argparse.Action):
    """`--help.trainer`: print every Trainer setting and stop."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(nargs=0, default=argparse.SUPPRESS, **kwargs)

    def __call__(self, parser: argparse.ArgumentParser, *args: Any) -> None:
        assert isinstance(parser, TrainParser)
        columns = min(shutil.get_terminal_size().columns, 140)
        for action in parser._settings("trainer."):
            print("\n".join(describe_setting(action, columns)))  # noqa: T201
        parser.exit()


def nearest_name(name: str, names: Sequence[str]) -> str | None:
    """The setting that was probably meant: alike as a whole, or its last part's beginning or initials (lr, bs)."""

    def likeness(candidate: str) -> float:
        prefix, _, part = candidate.rpartition(".")
        given_prefix, _, given_part = name.rpartition(".")
        whole = difflib.SequenceMatcher(None, name, candidate).ratio()
        if len(given_part) > 1 and given_part == "".join(word[:1] for word in part.split("_")):
            return 1.0 if prefix == given_prefix else 0.9
        beginning = difflib.SequenceMatcher(None, given_part, part[: len(given_part)]).ratio()
        return max(whole, beginning * (0.99 if prefix == given_prefix else 0.8))

    best = max(names, key=likeness, default=None)
    return best if best is not None and likeness(best) >= 0.6 else None


def describe_type(hint: Any) -> tuple[list[str], str]:
    """The choices that a type allows, if it names them, and the type in words."""
    if get_origin(hint) is Literal:
        choices = [str(choice) for choice in get_args(hint)]
        return choices, "one of " + ", ".join(choices)
    if get_origin(hint) in (Union, UnionType):
        parts = [describe_type(part) for part in get_args(hint) if part is not NoneType]
        choices = list(dict.fromkeys(choice for part in parts for choice in part[0]))
        return choices, " or ".join(dict.fromkeys(kind for _, kind in parts))
    if get_origin(hint) is list:
        choices, kind = describe_type(get_args(hint)[0])
        return choices, f"a list of {kind.removeprefix('a ')}s" if not choices else "a list"
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return [], words.get(hint, str(getattr(hint, "__name__", hint)))


def example(action: argparse.Action, kind: str) -> str | None:
    """A value that the setting accepts, or None where none is short enough to type."""
    if action.default not in (None, argparse.SUPPRESS):
        return str(action.default).lower() if isinstance(action.default, bool) else str(action.default)
    if "list of whole numbers" in kind:
        return '"[3, 8]"'
    return "true" if "true or false" in kind else "10" if "number" in kind else None


def describe_setting(action: argparse.Action, columns: int) -> list[str]:
    """A setting's lines in the help: name, default, meaning, choices."""
    choices, kind = describe_type(getattr(action, "_typehint", None))
    default = (
        ""
        if action.default in (None, argparse.SUPPRESS)
        else f" [{action.default}]".replace("True", "true").replace("False", "false")
    )
    meaning = re.sub(r"\s*\((?:type|default|required).*\)$", "", (action.help or "").replace("%%", "%")).strip()
    if action.dest.startswith("trainer."):  # Lightning's own words, of which the first sentence says what it is
        meaning, choices = meaning.split(". ")[0].split(".\n")[0], []
    sentence = f"--{action.dest}{default}  {meaning}"
    missing = [choice for choice in choices if not re.search(rf"\b{re.escape(choice)}\b", meaning)]
    if missing:
        sentence += f" {{{'|'.join(choices)}}}"
    elif not choices and not meaning:
        sentence += kind
    return textwrap.wrap(sentence, columns, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)


def config_files(args: Sequence[str]) -> list[Path]:
    """The files that `--config` or `-c` name, in their order."""
    files = [argument.partition("=")[2] for argument in args if argument.startswith(("--config=", "-c="))]
    files += [following for flag, following in pairwise(args) if flag in ("--config", "-c")]
    return [Path(file) for file in files]
