"""The parser of all commands: TRL's, with an answer to keys that it does not know."""

import re
import sys

from trl import TrlParser

from .recipes import OF_TRL, find_recipe, nearest, read_recipe


class RecipeParser(TrlParser):
    """`TrlParser` that finds recipes by name and names the nearest known key, however a script was started."""

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
        hints = [f"\n{flag}: {OF_TRL[flag[2:]]}" for flag in flags if flag[2:] in OF_TRL]
        hints += [nearest(flag, self._option_string_actions) for flag in flags]
        super().error(message + next(filter(None, hints), ""))
