"""The parser of all commands: TRL's, with an answer to keys that it does not know."""

import sys

from trl import TrlParser

from .recipes import read_recipe


class RecipeParser(TrlParser):
    """`TrlParser` that names the nearest known key, however a script was started."""

    def parse_args_and_config(self, args=None, **kwargs):
        args = None if args is None else list(args)
        words = sys.argv[1:] if args is None else args
        if "--config" in words[:-1]:
            read_recipe(words[words.index("--config") + 1], self)
        return super().parse_args_and_config(args, **kwargs)
