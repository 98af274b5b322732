"""The parser of all commands: TRL's, with an answer to keys that it does not know, and with a help to be read."""

import argparse
import inspect
import re
import sys
from typing import get_type_hints

from trl import TrlParser

from .recipes import OF_TRL, find_recipe, nearest, read_recipe


# Of TRL's and transformers' 200 settings, those that a first run sets
COMMON = (
    "model_name_or_path attn_implementation dtype load_in_4bit use_peft lora_r lora_alpha output_dir learning_rate "
    "beta loss_type num_train_epochs max_steps per_device_train_batch_size gradient_accumulation_steps bf16 fp16 "
    "gradient_checkpointing logging_steps save_steps eval_strategy report_to push_to_hub resume_from_checkpoint seed "
    "precompute_ref_log_probs max_new_tokens temperature num_generations max_completion_length num_iterations "
    "steps_per_generation reward_weights"
).split()


class RecipeParser(TrlParser):
    """
    `TrlParser` that finds recipes by name and names the nearest known key, however a script was started. `--help`
    shows our own settings and those that are set most often; `--help_all` shows all of them. `cures` has, for settings
    of other commands, what to write here.
    """

    def __init__(self, dataclass_types=None, cures=None, **kwargs):
        super().__init__(dataclass_types, **kwargs)
        self.cures = cures or {}
        own = [part for kind in dataclass_types or () for part in kind.__mro__ if not of_libraries(part)]
        self.shown = {"help", "config", "help_all", *COMMON}
        self.shown.update(name for part in own for name in vars(part).get("__annotations__", ()))
        documented = {name: text for part in own for name, text in documented_settings(part).items()}
        hints = [hint for kind in dataclass_types or () for hint in get_type_hints(kind).items()]
        wordy = {name for name, hint in hints if hint == int | str}
        for action in self._actions:
            action.help = action.help or documented.get(action.dest, "").replace("%", "%%")
            if action.dest in wordy:
                action.type = number_or_word
        self.add_argument(
            "--help_all", action=HelpAll, nargs=0, default=argparse.SUPPRESS, help="Show all settings, TRL's included."
        )

    def shows(self, action):
        """Whether `--help` has an option; the second one of a switch, `--no_NAME`, says nothing new."""
        return action.dest in self.shown and not action.option_strings[0].startswith("--no_")

    def format_help(self):
        others = {action: action.help for action in self._actions if not self.shows(action)}
        for action in others:
            action.help = argparse.SUPPRESS
        try:
            return super().format_help()
        finally:
            for action, text in others.items():
                action.help = text

    def parse_args_and_config(self, args=None, **kwargs):
        words = []
        for word in sys.argv[1:] if args is None else args:
            words += word.split("=", 1) if word.startswith("--config=") else [word]  # TRL reads separate words only
        if words[-1:] == ["--config"]:
            raise ValueError("`--config` needs the path or the name of a recipe.")
        if "--config" in words:
            place = words.index("--config") + 1
            path = find_recipe(words[place])
            read_recipe(path, self)
            words[place] = str(path)
        return super().parse_args_and_config(words, **kwargs)

    def error(self, message):
        flags = re.findall(r"(--\w+)", message) if message.startswith("unrecognized arguments") else []
        cures = OF_TRL | self.cures
        hints = [f"\n{flag}: {cures[flag[2:]]}" for flag in flags if flag[2:] in cures]
        hints += [nearest(flag, self._option_string_actions) for flag in flags]
        super().error(message + next(filter(None, hints), ""))


def of_libraries(cls):
    """Whether a class is one of those that our configurations inherit."""
    return cls.__module__.split(".")[0] in ("trl", "transformers", "builtins")


def documented_settings(cls):
    """What the docstring of a dataclass says of each setting (`dict[str, str]`), up to the end of a sentence."""
    arguments = re.split(r"^ {4}(\w+) \(`.*?\): *", inspect.getdoc(cls) or "", flags=re.M | re.S)[1:]
    texts = {}
    for name, text in zip(arguments[::2], arguments[1::2], strict=True):
        text = " ".join(re.split(r"\n(?! {4})", text.strip())[0].replace("`", "").split())
        sentence = re.match(r".*?[.](?= [A-Z]|$)|.*", text)[0].rstrip(".")
        texts[name] = re.sub(r"\[~?([\w.]+)\]", r"\1", _capitalized(sentence)) + "."
    return texts


def _capitalized(sentence):
    """A sentence (`str`) with a capital letter, unless it starts with the name of a file."""
    file = re.match(r"[\w.-]+\.\w", sentence)
    return sentence if file else sentence[:1].upper() + sentence[1:]


def number_or_word(text):
    """What a setting that takes both says (`int` or `str`), where transformers' parser takes the number alone."""
    try:
        return int(text)
    except ValueError:
        return text


class HelpAll(argparse.Action):
    """Shows every setting and exits."""

    def __call__(self, parser, namespace, values, option_string=None):
        parser.shown.update(action.dest for action in parser._actions)
        parser.print_help()
        parser.exit()
