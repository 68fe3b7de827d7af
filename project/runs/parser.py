"""From what is typed to settings: a short help, the nearest name for a misspelt one, and errors in two lines.

`parse_settings(sys.argv[1:])` gives a `RunSettings`. Help and most refusals come before torch and Lightning are loaded,
which takes seconds: names, types and ranges of the project's own settings need neither.
"""

import argparse
import ast
import difflib
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from jsonargparse import ArgumentParser, Namespace, _loaders_dumpers

from project.data.settings import DataSettings
from project.diagnosis.observers import DiagnosticsSettings
from project.errors import InputError
from project.extensions import load_named_extensions
from project.plain_data import ValueLoader
from project.runs.saving.files import read_yaml
from project.runs.settings import RunSettings, check_run_name, settings_from
from project.settings import choices_of, not_a_choice
from project.training.settings import ModelSettings

# what the parser reads, a value or a file, is read within bounds (private, seen in 4.53; the rows of tests/whole/
# test_bad_input.py about files and numbers)
_loaders_dumpers.yaml_default_loader = ValueLoader  # type: ignore[assignment]

TRAINER_DEFAULTS: dict[str, Any] = {
    "max_epochs": 15,
    "devices": 1,
    # the loaders shard by themselves, without padding
    "use_distributed_sampler": False,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
}
COMMON_TRAINER_SETTINGS = {
    "max_epochs": "Epochs after which the training ends at the latest.",
    "accelerator": "cpu, gpu, mps, …; auto takes what the machine has.",
    "devices": "How many devices, or which, as a list.",
    "precision": "32, bf16-mixed, 16-mixed, …",
    "gradient_clip_val": "Norm to which gradients are clipped.",
}
"""The Trainer's settings that the short help shows, in the project's words."""


class Parser(ArgumentParser):
    """jsonargparse's parser with the nearest name for a misspelt one, two-line errors and no abbreviations."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, default_env=False, **kwargs)

    def parse_args(  # type: ignore[override]  # argparse's is three overloads
        self, args: Sequence[str] | None = None, *others: Any, **kwargs: Any
    ) -> Namespace:
        """Load the files that --extensions names, which may add choices, and read all other arguments."""
        left = load_named_extensions(sys.argv[1:] if args is None else args)
        refuse_empty_words(left)
        return super().parse_args(left, *others, **kwargs)

    def format_help(self, formatter: Any = None) -> str:
        text = re.sub("<class '([A-Za-z]+)'>", lambda found: found[1].lower(), super().format_help(formatter))
        return f"{text}\n{EXTENSIONS_HELP}\n"

    def print_help(self, file: Any = None) -> None:
        print(self.format_help(), end="", file=file)

    def names(self) -> list[str]:
        """The settings' names as they are typed, without the dashes."""
        return [option.lstrip("-") for action in self._actions for option in action.option_strings]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if isinstance(ex, InputError):
            raise ex
        raise self._explain(message)

    def _explain(self, message: str) -> InputError:
        """Turn the parser's message into one line of cause and one of remedy."""
        names = self.names()
        # the same mistake in a file of settings, in a section and outside all of them
        unknown = re.match(r"unrecognized arguments: (?:--)?([^\s=]*)", message, re.IGNORECASE)
        unknown = unknown or re.search(r"(?:Group '([\w.]+)' does not accept o|O)ption '([\w.]+)'", message)
        if unknown:
            return unknown_setting(".".join(group for group in unknown.groups() if group), names)
        key_error = re.match(r'Parser key "([\w.]+)":\s*(.*)', message, re.DOTALL)
        if key_error:
            key, detail = key_error.groups()
            action = next((a for a in self._actions if a.dest == key), None)
            given = re.search(r"(?:Got value|Given value): (.*)", detail)
            value = given.group(1).strip() if given else "what was given"
            argument = re.match(r"NestedArg\(key='([\w.]+)', val='?(.*?)'?\)$", value)
            if argument:
                return InputError(
                    f"{key}.{argument[1]} is {argument[2]}, which the class named before it does not take",
                    "compare the name and the value with what Lightning's documentation says of that class",
                )
            if getattr(action, "_typehint", None) is None and any(name.startswith(key + ".") for name in names):
                return InputError(f"{key} is a group of settings, not a setting", "type for example --model.depth 3")
            if action is not None:
                choices, kind = describe_action(action)
                if choices:
                    return not_a_choice(key, value, choices)
                shown = example(action, kind)
                remedy = f"type for example --{key} {shown}" if shown else f"leave --{key} out"
                return InputError(f"{key} is {value}, but must be {kind}", remedy)
        lines = [line.strip() for line in message.strip().splitlines()]
        return InputError(" ".join(lines)[:500], ASK_HELP)


def refuse_empty_words(words: Sequence[str]) -> None:
    """Refuse `--output ''`, `--output=` and a name that is empty: each is a variable of the shell that has no value.

    Raises:
        InputError: If a word or a flag's value is empty.
    """
    for previous, word in pairwise(["", *words]):
        flag, equals, value = word.partition("=")
        if word and not (word.startswith("--") and equals and not value):
            continue
        given = flag or (previous if previous.startswith("--") and "=" not in previous else "")
        what = given.lstrip("-") or "a name on the command line"
        raise InputError(f"{what} is empty", f"type a value after {given}, or leave it out" if given else "type a name")


EXTENSIONS_HELP = "--extensions FILE: import your own Python file, which may add choices; may come several times."
ASK_HELP = "type --help for all settings"


def unknown_setting(name: str, names: Sequence[str]) -> InputError:
    """The refusal of a setting that does not exist, with the one that was probably meant."""
    nearest = nearest_name(name, names)
    return InputError(
        f"there is no setting {name!r}", f"did you mean {nearest}? Or {ASK_HELP}" if nearest else ASK_HELP
    )


def model_and_data_parser() -> Parser:
    """A parser of the settings that a model and its data have, and of nothing else: no class can be named."""
    parser = Parser()
    parser.add_argument("--seed_everything", type=int, default=0)
    _add_own_sections(parser)
    return parser


def _add_own_sections(parser: Parser) -> None:
    parser.add_class_arguments(ModelSettings, "model", instantiate=False)
    parser.add_class_arguments(DataSettings, "data", instantiate=False)


class RunParser(Parser):
    """The parser of a run's settings, with a help that fits on two screens; `run_parser` makes one.

    jsonargparse makes parsers of this class for its own use, so that the settings are not added here.
    """

    def names(self) -> list[str]:
        return [*super().names(), *(f"trainer.{name}" for name in trainer_settings())]

    def read(self, args: Sequence[str]) -> Namespace:
        """Answer `--help`, and refuse what is wrong, before Lightning is loaded; the Trainer's values are not checked.

        Raises:
            InputError: If a setting does not exist or has a wrong value.
        """
        for path in config_files(args):
            read_yaml(path, is_typed=True)  # says what is wrong with which file, which the parser does not
        config = self.parse_args(_without_appended(args))
        for name in config["trainer"]:
            if name.split(".")[0].rstrip("+") not in trainer_settings():
                raise unknown_setting(f"trainer.{name}", self.names())
        return config

    def format_help(self, formatter: Any = None) -> str:
        """The project's own settings, then the commonest of the Trainer's."""
        columns = min(shutil.get_terminal_size().columns, 140)
        lines = [*textwrap.wrap(self.description or "", columns), ""]
        lines += ["usage: " + (self.prog or "train.py") + " [--config FILE] [--SETTING VALUE ...]", ""]
        lines += ["  --config FILE: settings from a YAML file, over the defaults; may come several times, flags win."]
        lines += textwrap.wrap(f"  {EXTENSIONS_HELP}", columns, subsequent_indent="      ")
        lines += ["  --print_config: show all settings as YAML. --help.trainer: all of the Trainer's settings."]
        for title, prefix in (
            ("The run", ""),
            ("The model", "model."),
            ("The data", "data."),
            ("Looking inside", "diagnostics."),
        ):
            lines += ["", title]
            for action in self.settings(prefix):
                lines += describe_setting(action, columns)
        lines += ["", "The Trainer"]
        defaults = trainer_settings() | TRAINER_DEFAULTS
        for name, meaning in COMMON_TRAINER_SETTINGS.items():
            default = "" if defaults.get(name) is None else f" [{defaults[name]}]"
            lines += wrap_setting(f"--trainer.{name}{default}  {meaning}", columns)
        return "\n".join(lines) + "\n"

    def settings(self, prefix: str) -> list[argparse.Action]:
        """The settings of one section; those outside all sections for an empty prefix."""
        skip = ("help", "config", "print_config", "help.trainer", "model", "data", "trainer", "diagnostics")
        return [
            action
            for action in self._actions
            if action.option_strings
            and action.option_strings[-1].startswith("--" + prefix)
            and (prefix or "." not in action.dest)
            and action.dest not in skip
            and action.help != argparse.SUPPRESS
        ]


def run_parser(description: str = "", with_trainer: bool = False) -> RunParser:
    """Make a parser of a run's settings.

    Args:
        description: First line of the help.
        with_trainer: Whether it knows the Trainer's settings by their types, for which Lightning is loaded.
    """
    parser = RunParser(description=description)
    parser.add_argument("-c", "--config", action="config")
    sections = {"model", "data", "diagnostics", "trainer", "explain", "debug"}
    parser.add_class_arguments(RunSettings, instantiate=False, skip=sections)
    if with_trainer:
        from pytorch_lightning import Trainer

        parser.add_class_arguments(Trainer, "trainer", fail_untyped=False, instantiate=False, sub_configs=True)
        parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
    else:
        parser.add_argument("--trainer", type=dict, default={}, help=argparse.SUPPRESS)
    _add_own_sections(parser)
    parser.add_class_arguments(DiagnosticsSettings, "diagnostics", instantiate=False)
    explain = "Afterwards try changes of the settings in short trials, and say what each is worth."
    parser.add_argument("--explain", action="store_true", help=explain)
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    parser.add_argument("--help.trainer", action=TrainerHelp, help=argparse.SUPPRESS)
    return parser


class TrainerHelp(argparse.Action):
    """`--help.trainer`: print every Trainer setting and stop."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(nargs=0, default=argparse.SUPPRESS, **kwargs)

    def __call__(self, parser: argparse.ArgumentParser, *args: Any) -> None:
        columns = min(shutil.get_terminal_size().columns, 140)
        for action in full_parser().settings("trainer."):
            print("\n".join(describe_setting(action, columns)))  # noqa: T201
        parser.exit()


@cache
def full_parser() -> RunParser:
    """The parser of all settings, the Trainer's too. Making it takes longer than most of what it is asked."""
    return run_parser(with_trainer=True)


@cache
def _own_parser() -> RunParser:
    return run_parser()


@cache
def trainer_settings() -> dict[str, Any]:
    """The names of the Trainer's settings, with those defaults that are plain values.

    They are read from the source of Lightning's Trainer, because importing it takes seconds.
    """
    spec = find_spec("pytorch_lightning")
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "trainer" / "trainer.py").read_text(encoding="utf-8")
    trainer = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Trainer")
    start = next(node for node in trainer.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    return {
        argument.arg: default.value if isinstance(default, ast.Constant) else None
        for argument, default in zip(start.args.kwonlyargs, start.args.kw_defaults, strict=True)
    }


def parse_settings(args: Sequence[str] | None = None, description: str = "") -> RunSettings:
    """Read a run's settings from defaults, `--config` files and flags; with `--resume`, from the run to go on with.

    Args:
        args: Flags; None takes the command line.
        description: First line of the help.

    Raises:
        InputError: If a setting does not exist or has a wrong value, or the run cannot be resumed.
        SystemExit: For `--help`, `--print_config`, or `--resume auto` of a finished run.
    """
    given = list(sys.argv[1:] if args is None else args)
    early = run_parser(description).read([word for word in given if not word.startswith("--print_config")])
    if early["resume"] is None:  # else what is given is only a part of the run's settings
        settings_from(early.as_dict())
    parser = full_parser()
    config = parser.parse_args(given)
    folder = folder_to_resume(config)
    if folder is None:
        return settings_from(config.as_dict())
    from project.runs.saving.resumption import FinishedRunError, find_resumption, resumed_settings

    try:
        config = resumed_settings(parser, find_resumption(folder), parser.parse_args(given, defaults=False))
    except FinishedRunError as finished:
        if config["resume"] != "auto":
            raise
        parser.exit(0, f"{finished.cause}\n{finished.remedy}\n")  # a job that was queued once too often
    return settings_from(config.as_dict() | {"resume": str(folder), "run_name": None})


def settings_of(sections: Mapping[str, Any], with_trainer: bool = True) -> RunSettings:
    """Check nested plain data, such as a notebook's, as the command line's settings are checked.

    Args:
        sections: What differs from the defaults: {"model": {"depth": 3}, "trainer": {"max_epochs": 2}}.
        with_trainer: Whether the values of the Trainer's settings are checked too, for which Lightning is loaded.

    Raises:
        InputError: If a setting does not exist or has a wrong value.
    """
    parser = full_parser() if with_trainer else _own_parser()
    return settings_from(parser.parse_object(dict(sections)).as_dict())


def trainer_arguments(settings: RunSettings, folder: Path | None) -> dict[str, Any]:
    """The Trainer's arguments, with the objects of those that name a class.

    Args:
        settings: Of the run.
        folder: Its folder, which takes the place of {run_folder}; None leaves out the loggers, which write there.
    """
    parser, trainer = full_parser(), dict(settings.trainer)
    if folder is None:
        trainer["logger"] = False
    else:
        trainer = _with_run_folder(trainer, folder.resolve().as_posix())
    return dict(parser.instantiate(parser.parse_object({"trainer": trainer}))["trainer"])


def _with_run_folder(value: Any, folder: str) -> Any:
    if isinstance(value, Mapping):
        return {name: _with_run_folder(item, folder) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_run_folder(item, folder) for item in value]
    return value.replace("{run_folder}", folder) if isinstance(value, str) else value


def _without_appended(args: Sequence[str]) -> list[str]:
    """The flags without those such as `--trainer.callbacks+=CLASS`, which only the Trainer's own types understand."""
    kept, is_value = [], False
    for word in args:
        if re.match(r"--trainer\.[\w.]+\+", word):
            is_value = "=" not in word
            continue
        if not is_value or word.startswith("--"):
            kept.append(word)
        is_value = False
    return kept


def folder_to_resume(config: Namespace) -> Path | None:
    """The run folder that `--resume` means; None if a new run is to be started."""
    resume, name = config["resume"], config["run_name"]
    if resume is None:
        return None
    if resume != "auto":
        if name is not None:
            raise InputError("--resume names the run already", "leave --run_name out, or type --resume auto")
        folder = Path(resume)
        if not (folder / "config.yaml").is_file():
            raise InputError(f"{folder} is no run folder: it has no config.yaml", "name a folder RUN_ROOT/DATASET/NAME")
        return folder
    if name is None:
        raise InputError("--resume auto has to know which run", "add --run_name NAME")
    check_run_name(name)
    folder = Path(config["run_root"]) / config["data"]["dataset"] / name
    return folder if (folder / "config.yaml").is_file() else None


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
    choices = choices_of(hint)
    if get_origin(hint) in (Union, UnionType):
        kinds = [describe_type(part)[1] for part in get_args(hint) if part is not NoneType]
        if float in get_args(hint) and choices:  # beside any number, a word is no list of all that is allowed
            return [], " or ".join(["a number", *choices])
        # sorted, because the order in which typing gives the parts of a union is that of its first use
        return choices, " or ".join(sorted(set(kinds), reverse=True))
    if get_origin(hint) is list:
        kind = describe_type(get_args(hint)[0])[1]
        return choices, "a list" if choices else f"a list of {kind.removeprefix('a ')}s"
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return choices, "one of " + ", ".join(choices) if choices else words.get(hint, str(getattr(hint, "__name__", hint)))


def describe_action(action: argparse.Action) -> tuple[list[str], str]:
    """The choices of a setting, if it has any, and its type in words."""
    section, _, name = action.dest.partition(".")
    table = {"model": ModelSettings.CHOICES, "data": DataSettings.CHOICES}.get(section, {}).get(name)
    return describe_type(getattr(action, "_typehint", None) if table is None else Literal[tuple(table)])


def example(action: argparse.Action, kind: str) -> str | None:
    """A value that the setting accepts, or None where none is short enough to type."""
    if action.default not in (None, argparse.SUPPRESS):
        return str(action.default).lower() if isinstance(action.default, bool) else str(action.default)
    if "list of whole numbers" in kind:
        return '"[3, 8]"'
    return "true" if "true or false" in kind else "10" if "number" in kind else None


def describe_setting(action: argparse.Action, columns: int) -> list[str]:
    """A setting's lines in the help: name, default, meaning, choices."""
    choices, kind = describe_action(action)
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
    return wrap_setting(sentence, columns)


def wrap_setting(sentence: str, columns: int) -> list[str]:
    """A setting's sentence as lines of the help."""
    return textwrap.wrap(sentence, columns, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)


def config_files(args: Sequence[str]) -> list[Path]:
    """The files that `--config` or `-c` name, in their order."""
    files = [argument.partition("=")[2] for argument in args if argument.startswith(("--config=", "-c="))]
    files += [following for flag, following in pairwise(args) if flag in ("--config", "-c")]
    return [Path(file) for file in files]
