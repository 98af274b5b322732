"""Which converter a row as stored is written for, seen from its columns."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .generic import is_written_plainly
from .pairs import Row
from .values import records


class Layout(NamedTuple):
    """
    How rows of a converter are recognised.

    Attributes:
        columns (`tuple[frozenset[str], ...]`): sets of columns; all of one of them must hold something.
        fits (`Callable` or `None`): what must also hold of the row; it may fail on rows of other layouts.
    """

    columns: tuple[frozenset[str], ...]
    fits: Callable[[dict[str, Any]], bool] | None = None


def converter_of(row: Any) -> str | None:
    """
    Name of the converter that a row is written for.

    Args:
        row (`Any`): row as it is stored.

    Returns:
        `str` or `None`:
            Key of `CONVERTERS`; `None` for rows that need none, and for those of an unknown layout.
    """
    if not isinstance(row, dict):
        return None
    filled = {name for name, value in row.items() if value is not None}
    for name, layout in LAYOUTS.items():
        if any(columns <= filled for columns in layout.columns) and _fits(layout, row):
            return name
    return "generic" if is_written_plainly(row) else None


def nearest_converter(columns: Iterable[str]) -> str:
    """
    The converter whose columns are most like these, for the message about an unknown layout.

    Args:
        columns (`Iterable[str]`): names of the columns of a row.

    Returns:
        `str`:
            Key of `CONVERTERS`; `"generic"` where no other has a column of these.
    """
    found = {*columns}
    best, nearest = (0.0, 0), "generic"
    for name, layout in LAYOUTS.items():
        for wanted in layout.columns:
            # A column that few layouts have says more
            likeness = sum(1 / _layouts_with(column) for column in wanted & found), -len(wanted - found)
            if likeness > best and wanted & found:
                best, nearest = likeness, name
    return nearest


def _layouts_with(column: str) -> int:
    return sum(any(column in wanted for wanted in layout.columns) for layout in LAYOUTS.values())


def _fits(layout: Layout, row: dict[str, Any]) -> bool:
    if layout.fits is None:
        return True
    try:
        return layout.fits(row)
    except (LookupError, TypeError, ValueError, AttributeError):
        return False


def _is_openbmb_text(row: Row) -> bool:
    """Whether `text` holds a pair, as JSON or not."""
    text = row.get("text")
    return row.get("text_b64") is not None or (isinstance(text, str | dict) and "rejected" in text)


def _have(*names: str) -> Callable[[Row], bool]:
    """Whether the first completion has these keys."""
    return lambda row: {*names} <= {*records(row["completions"])[0]}


def _is_ha_dpo(row: Row) -> bool:
    """Whether a row is a question of its `pope_data.json`, or has lists of descriptions."""
    if "correct" in row or "reject" in row:
        return True
    answers = [row["chosen"], row["rejected"]]
    return all(isinstance(several, list) and all(isinstance(text, str) for text in several) for several in answers)


def _is_conversation(row: Row) -> bool:
    turns = row["conversations"]
    return (
        isinstance(turns, list)
        and bool(turns)
        and all(isinstance(turn, dict) and {"from", "value"} <= {*turn} for turn in turns)
    )


def _is_llama_factory_v1(row: Row) -> bool:
    """Whether a row has two conversations, or one whose parts are written as no other layout has them."""
    if row.get("chosen_messages") is not None:
        return True
    parts = [part for turn in row["messages"] if isinstance(turn["content"], list) for part in turn["content"]]
    return any("value" in part for part in parts)


def _is_ms_swift(row: Row) -> bool:
    """Messages alone are rows of the format, if there is a column of images, too."""
    others = ("rejected_response", "rejected_messages", "query", "conversation")
    if any(row.get(name) is not None for name in others):
        return True
    return not {"images", "image", "chosen", "prompt"} & {*row} and _are_messages(row["messages"])


def _are_messages(value: Any) -> bool:
    return bool(value) and all("role" in turn and "content" in turn for turn in value)


def _layout(*columns: str, fits: Callable[[dict[str, Any]], bool] | None = None) -> Layout:
    """Layout of one or more sets of columns, each written as names with spaces between."""
    return Layout(tuple(frozenset(names.split()) for names in columns), fits)


# The more particular ones first
LAYOUTS = {
    "rlhf_v": _layout("text image", "text image_path", "text img_b64_buffer", "text_b64", fits=_is_openbmb_text),
    "spa_vl": _layout("image question chosen rejected class1"),
    "ic_vco": _layout("prompt chosen rejected chosen_response_spans"),
    "vision_arena": _layout("conversation_a conversation_b winner"),
    "rlaif_v": _layout("question chosen rejected origin_dataset", "question chosen rejected origin_split"),
    "vlfeedback": _layout("prompt completions", fits=_have("annotations", "response")),
    "bpo": _layout("prompt completions", fits=_have("score", "response")),
    "povid": _layout("conversations rejected_conversations"),
    "llava_rlhf": _layout("conversations output_1 output_2 preference"),
    "vision_feedback_mix": _layout("conversations origin_pre_dataset"),
    "vl_rewardbench": _layout("query response human_ranking"),
    "sharegpt": _layout("conversations chosen rejected", "messages chosen rejected"),
    "llama_factory_v1": _layout("chosen_messages rejected_messages", "messages", fits=_is_llama_factory_v1),
    "ms_swift": _layout(
        "messages rejected_response",
        "messages rejected_messages",
        "query response",
        "conversation system",
        "conversation",
        "messages",
        fits=_is_ms_swift,
    ),
    "nlf": _layout("image_id interaction", "interaction"),
    "mm_rlhf": _layout("question models_output final_ranking"),
    "mm_rlhf_pairs": _layout(
        "prompt chosen rejected is_tie",
        "prompt chosen rejected chosen_reason",
        "prompt chosen rejected rejected_reason",
    ),
    "llava_hound": _layout("video prompt chosen rejected"),
    "sentinel": _layout("question y_win y_lose", fits=lambda row: "context" in row),
    "ha_dpo": _layout("image_id question chosen reject", "image_id chosen rejected", fits=_is_ha_dpo),
    "opa_dpo": _layout("image_bytes AI_pseudo_response original_generate_response"),
    "mdpo": _layout("img_path prompt chosen rejected"),
    "mmpr": _layout("question chosen rejected answer_gt", "question chosen rejected image_wh"),
    "llava_instruct": _layout("conversations", fits=_is_conversation),
}
