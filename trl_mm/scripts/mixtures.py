"""`datasets` of the commands that train: several datasets in one recipe, each with settings of its own."""

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path

from ..data.subset import check_subset, check_weight
from .recipes import nearest


EXAMPLE = '[{"path": "data/povid"}, {"path": "openbmb/RLHF-V-Dataset", "converter": "rlhf_v", "weight": 0.5}]'
# Settings of TRL's mixtures that mean something else here
OF_TRL = {
    "fraction": "Its share of the mixture follows from `weight`, the share of its own rows that is drawn.",
    "data_dir": "Name the folder in `path`.",
    "data_files": "Name the file or the folder in `path`.",
}


@dataclass(kw_only=True)
class MixturePartSettings:
    """
    A dataset in `datasets` of a command that trains.

    Args:
        path (`str`): folder, file or Hub id of its rows.
        name (`str`, *optional*): for a dataset of the Hub: its configuration.
        split (`str`, *optional*): split to train on; defaults to `dataset_train_split` of the command.
        test_split (`str`, *optional*): split to evaluate on; defaults to `dataset_test_split` of the command.
        converter (`str`, *optional*): what its rows are written like; defaults to that of the command.
        columns (`dict`, *optional*): new names of its columns to those that they have; defaults to those of the
            command.
        image_folder (`str`, *optional*): folder that its image paths are relative to; defaults to that of the command,
            and then to that of the data.
        max_rows (`int`, *optional*): use its first rows only; the others are not looked at.
        shuffle_seed (`int`, *optional*): with `max_rows`, use a random subset instead, drawn with this seed. `weight`
            draws with it, too.
        weight (`float`, *optional*, defaults to `1.0`): share of these rows that is drawn, without replacement; above
            1 rows are repeated: with 2.5 all are there twice, and half of them a third time.
        source (`str`, *optional*): what it is called in `row_id`, in messages, and in the column `source` of rows that
            say nothing there; defaults to the last part of `path`.
    """

    path: str
    name: str | None = None
    split: str | None = None
    test_split: str | None = None
    converter: str | None = None
    columns: dict | None = None
    image_folder: str | None = None
    max_rows: int | None = None
    shuffle_seed: int | None = None
    weight: float = 1.0
    source: str | None = None

    def __post_init__(self):
        kinds = {"columns": dict, "max_rows": int, "shuffle_seed": int, "weight": (int, float)}
        for field in fields(self):
            value = getattr(self, field.name)
            is_needed = field.name in ("path", "weight")
            is_right = isinstance(value, kinds.get(field.name, str)) and not isinstance(value, bool)
            if not (is_right or (value is None and not is_needed)):
                raise ValueError(f"`{field.name}` must be {KINDS.get(field.name, 'a text')}, got {value!r}.")
        check_weight(self.weight)
        check_subset(self.max_rows, self.shuffle_seed if self.max_rows is not None else None)
        if self.shuffle_seed is not None and self.max_rows is None and float(self.weight).is_integer():
            raise ValueError(
                f"`shuffle_seed` ({self.shuffle_seed}) would do nothing: all rows are used. Set `max_rows` or "
                "`weight`, or leave it out."
            )
        if self.source is None:
            self.source = re.sub(r"[^\w.-]", "_", Path(self.path).name) or "rows"
        elif not re.fullmatch(r"[\w.-]{1,100}", self.source):
            raise ValueError(f"`source` must be letters, digits, `_`, `-` and `.`, got {self.source!r}.")


def read_parts(datasets):
    """
    Check what a recipe, or its JSON on the command line, says in `datasets`.

    Args:
        datasets (`list[dict]` or `str`): settings of each part.

    Returns:
        `list[MixturePartSettings]`: the parts.

    Raises:
        ValueError: it is no list of settings, one of these is unknown or wrong, or two parts have the same name.
    """
    if not isinstance(datasets, list) or not datasets:
        raise ValueError(f"`datasets` must be a list of settings, one for each dataset, got {datasets!r}. {CURE}")
    known, parts = [field.name for field in fields(MixturePartSettings)], []
    for number, settings in enumerate(datasets):
        where = f"`datasets`, part {number}"
        if not isinstance(settings, dict) or "path" not in settings:
            raise ValueError(f"{where} must hold `path` and other settings, got {settings!r}. {CURE}")
        for key in settings:
            if key in OF_TRL:
                raise ValueError(f"{where}: `{key}` of TRL's mixtures is not read here. {OF_TRL[key]}")
            if key not in known:
                hint = nearest(str(key), known)
                raise ValueError(f"{where}: unknown setting `{key}`{hint}. Known: {', '.join(known)}.")
        try:
            part = MixturePartSettings(**settings)
        except ValueError as error:
            raise ValueError(f"{where} ({settings['path']}): {error}") from error
        if part.source in [other.source for other in parts]:
            raise ValueError(f"{where}: another part is called {part.source}, too. Give this one another `source`.")
        parts.append(part)
    return parts


def as_list(datasets):
    """`datasets` of a recipe as it is, or of the command line from JSON; `null` takes back a recipe's."""
    if not isinstance(datasets, str):
        return datasets
    try:
        return json.loads(datasets)
    except ValueError as error:
        raise ValueError(f"`datasets` ({datasets}) is no JSON: {error}. {CURE}") from error


def load_mixture(args, training_args, needs):
    """
    Load the rows of all parts. Arguments, errors and result are those of
    [`~trl_mm.scripts.training.load_splits`], whose `args` have `datasets`.
    """
    from ..data.checked import mark_checked
    from ..data.mixing import mix_datasets
    from ..data.subset import subset_positions
    from ..data.tables import check_some_images

    parts, seed = read_parts(args.datasets), args.shuffle_seed or 0
    train = {part.source: load_part(part, args, training_args, needs) for part in parts}
    tests = {
        part.source: load_part(part, args, training_args, needs, split)
        for part in parts
        if (split := part.test_split or args.dataset_test_split)
    }
    weights = {part.source: part.weight for part in parts}
    seeds = {part.source: part.shuffle_seed for part in parts if part.shuffle_seed is not None}
    mixed = mix_datasets(train, weights, seeds, seed)
    check_some_images(mixed, f"the mixture of {', '.join(train)}")
    # The order is random already, so these are a random subset
    positions = subset_positions(len(mixed), args.max_rows, args.shuffle_seed)
    mixed = mixed if len(positions) == len(mixed) else mixed.select(positions)
    if training_args.process_index == 0:
        print(summary(train, mixed))
    evaluated = mix_datasets(tests, seed=seed) if tests else None
    for rows in (mixed, evaluated):
        if rows is not None:
            mark_checked(rows, needs, training_args.check_images)
    return mixed, evaluated


def load_part(part, args, training_args, needs, test_split=None):
    """The rows (`datasets.Dataset`) of one part: all of `test_split`, or what its settings leave of `split`."""
    from ..data.loading import BAD_ROWS, load_preferences

    subset = {"max_rows": part.max_rows, "shuffle_seed": None if part.max_rows is None else part.shuffle_seed}
    name = part.source if test_split is None else f"{part.source}_{test_split}"
    try:
        return load_preferences(
            part.path,
            converter=part.converter or args.converter,
            columns=part.columns or args.columns,
            split=test_split or part.split or args.dataset_train_split,
            image_folder=part.image_folder or args.image_folder,
            needs=needs,
            on_bad_image=training_args.on_bad_image,
            check_images=training_args.check_images,
            bad_rows_file=Path(training_args.output_dir) / f"{name}_{BAD_ROWS}",
            **(subset if test_split is None else {}),
            **({} if part.name is None else {"name": part.name}),
        )
    except (ValueError, FileNotFoundError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(f"`datasets`, part {part.source}: {error}") from error


def summary(parts, mixed):
    """How many rows of each part are in the mixture, as text for the terminal."""
    from collections import Counter

    found = Counter(row_id.split(":")[0] for row_id in mixed["row_id"])
    width = max(map(len, parts))
    lines = [
        f"  {name:<{width}}  {found[name]:>9,} ({found[name] / len(mixed):.1%}), of {len(rows):,}"
        for name, rows in parts.items()
    ]
    return "\n".join([f"Mixture of {len(mixed):,} rows:", *lines])


CURE = f"On the command line write '{EXAMPLE}'."
KINDS = {"columns": "a mapping", "max_rows": "a whole number", "shuffle_seed": "a whole number", "weight": "a number"}
