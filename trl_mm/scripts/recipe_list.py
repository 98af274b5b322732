"""`trl-mm recipes`: lists the recipes that come with the package, shows one, or copies it to a file of the user's."""

import argparse
import os
import sys
from pathlib import Path

from .recipes import known_recipes, nearest_names


def make_parser():
    parser = argparse.ArgumentParser(
        prog="trl-mm recipes",
        usage="trl-mm recipes [NAME [--to FILE]]",
        description=(
            "List the recipes, show one, or copy one. `--config NAME` takes a recipe by its name, without "
            "a copy; names under accelerate/ are for `--accelerate_config`."
        ),
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="Recipe to show, such as llava_v1.6_vicuna_7b/bdhs.")
    parser.add_argument("--to", metavar="FILE", type=Path, help="File that it is copied to, which must not be there.")
    return parser


def main(argv=None):
    args = make_parser().parse_args(argv)
    recipes = known_recipes(with_accelerate=True)
    if args.name is None:
        if args.to is not None:
            raise ValueError(f"`--to {args.to}` needs the name of a recipe: `trl-mm recipes NAME --to {args.to}`.")
        list_recipes(recipes)
        return
    asked = args.name.removeprefix("recipes/").removesuffix(".yaml")
    if asked not in recipes:
        raise ValueError(
            f"unknown recipe `{args.name}`; the nearest are {', '.join(nearest_names(asked, recipes))}. "
            "`trl-mm recipes` lists all."
        )
    if args.to is None:
        print(recipes[asked].read_text(encoding="utf-8"), end="")
    else:
        copy(recipes[asked], args.to)


def list_recipes(recipes):
    """Print the names of recipes (`dict[str, Path]`), each with the first line of its file."""
    width = max(map(len, recipes), default=0) + 2
    ordered = sorted(recipes, key=lambda name: (name.startswith("accelerate/"), name))
    # In one piece, as `| head` may close the pipe after the first lines
    print("\n".join(f"{name:{width}}{headline(recipes[name])}" for name in ordered))


def headline(path):
    """First line of the head of a recipe (`str`)."""
    with open(path, encoding="utf-8", errors="replace") as file:
        first = file.readline().strip()
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def copy(recipe, path):
    """Copy a recipe to a file that is not there."""
    if path.is_dir():
        raise ValueError(f"`--to {path}` is a folder: name a file in it, such as `{path / recipe.name}`.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:  # never over a file that somebody has changed
            file.write(recipe.read_bytes())
    except FileExistsError as error:
        raise ValueError(f"`--to {path}` is there: name another file, or delete this one.") from error
    except OSError as error:
        raise OSError(f"`--to {path}` cannot be written: {error.strerror or error}. Name another file.") from error
    at = "--accelerate_config" if recipe.parent.name == "accelerate" else "--config"
    print(f"{path} (`{at} {os.fspath(path)}` reads it)")


if __name__ == "__main__":
    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
