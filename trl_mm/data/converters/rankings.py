"""Several answers to one prompt, rated, ranked or refined: VLFeedback, BPO, MM-RLHF and the feedback of DRESS."""

from typing import Any

from .left_out import LeftOut
from .pairs import Row, pair, rated_pairs, rows_of
from .questions import mm_rlhf_known
from .values import images_of, parsed, rating_of, records, text_of


_SHORT = 3  # words; BPO's own loader leaves out short answers too
_ASPECTS = ("faithfulness", "helpfulness", "ethical")


def vlfeedback(row: dict[str, Any], only_extremes: bool = False) -> list[dict[str, Any]]:
    """
    ```python
    {"id": "wit-1", "prompt": "What is it?",
     "image": {"bytes": b"...", "path": "1.jpg"},   # `img_path` in vlfeedback_80k.jsonl
     "models": ["gpt-4v", "llava", ...],
     "completions": [{"annotations": {"Helpfulness": {"Rating": "5", "Rationale": "..."},
                                      "Visual Faithfulness": {"Rating": "4", ...},
                                      "Ethical Considerations": {"Rating": "N/A", ...}},
                      "model": "gpt-4v", "response": "A dog."}, ...]}   # four; also a dictionary of lists
    ```

    All pairs by the mean of the three ratings, as for Silkie. Answers with a rating that is no number are in none, nor
    are ties.
    """
    answers = []
    for completion in records(row["completions"]):
        aspects = [aspect for aspect in completion["annotations"].values() if aspect is not None]
        rating = _mean([rating_of(aspect["Rating"]) for aspect in aspects])
        answers.append({"text": completion["response"], "writer": completion.get("model"), "rating": rating})
    images = images_of(row, "image", "img_path", "images")
    known = {"dataset": "VLFeedback"}
    return _rated_rows(images, row["prompt"], answers, known, row.get("id"), only_extremes)


def vlfeedback_best_worst(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The best of the answers of a row of [`vlfeedback`] against the worst, the first where several are."""
    return vlfeedback(row, only_extremes=True)


def bpo(row: dict[str, Any]) -> list[dict[str, Any]]:
    """
    ```python
    {"prompt": "What is it?\\n<image>", "image": "coco/train2017/1.jpg",
     "completions": [{"score": 1, "response": "A brown dog.", "type": "gt"},      # or gt-rephrased
                     {"score": 0, "response": "Two black dogs.", "type": "mllm-hal"}]}   # or llm-hal
    ```

    All pairs in the order of their scores. Answers of fewer than three words are in none, nor are repeated ones.
    `chosen_model` and `rejected_model` are the types.
    """
    answers, seen = [], set()
    for completion in records(row["completions"]):
        text = text_of(completion["response"]).strip()
        if len(text.split()) >= _SHORT and text not in seen:
            seen.add(text)
            rating = rating_of(completion["score"])
            answers.append({"text": text, "writer": completion.get("type"), "rating": rating})
    if len(answers) < 2:
        raise LeftOut("short or repeated answers")
    return _rated_rows(images_of(row), row["prompt"], answers, {"dataset": "BPO"}, row.get("id"))


def mm_rlhf(row: dict[str, Any]) -> list[dict[str, Any]]:
    """
    ```python
    {"id": "a1", "question": "What is it?", "answer": "A dog.", "image": "long/0.jpg",   # or `video`
     "models_output": ["A dog.", "Two dogs.", "A cat."],   # or a dictionary by the name of the model
     "final_ranking": [1, 2, 2],                           # 1 is best; of names also "gpt-4o>llava=qwen"
     "faithfulness": [5, 3, 2], "helpfulness": [...], "ethical": [...],
     "score_reasons": [...], "ranking_reason": "..."}
    ```

    All pairs by rank; `data.jsonl` and the parquet files of MM-RLHF. Videos are left out, and ties are in no pair.
    Ratings are the mean of the three.
    """
    images = images_of(row)
    if row.get("video") and not images:
        raise LeftOut("video")
    outputs, ranking = parsed(row["models_output"]), row["final_ranking"]
    ranks = _by_place(parsed(ranking)) if isinstance(outputs, list) else _ranks(ranking)
    aspects = [_by_model(parsed(row.get(name))) for name in _ASPECTS]
    answers = [
        {
            "text": text,
            "writer": model if isinstance(model, str) else None,
            "rating": None if ranks.get(model) is None else -ranks[model],
            "score": _mean([rating_of(aspect.get(model)) for aspect in aspects]),
        }
        for model, text in _by_model(outputs).items()
        if text is not None
    ]
    return _rated_rows(images, row["question"], answers, mm_rlhf_known(images), row.get("id"))


def nlf(row: dict[str, Any]) -> dict[str, Any]:
    """
    ```python
    {"image_id": "000000316520.jpg", "caption": "A man rides a wave.",  # or a list of captions
     "interaction": [{"user": "What is he doing?", "model": "He swims.", "rating": "2", "critique NLF": "..."},
                     {"user": "Look at the board.", "model": "He surfs.", "rating": "4", "critique_NLF": "..."}]}
    ```

    Feedback of DRESS: the first answer is rejected, the last refinement chosen, both to the first question.
    """
    first, *others = records(row["interaction"])
    if not others:
        raise LeftOut("fewer than two answers")
    known = {
        "dataset": "LVLM_NLF",
        "chosen_rating": rating_of(others[-1].get("rating")),
        "rejected_rating": rating_of(first.get("rating")),
        "critique": _critique(first),
    }
    return pair(images_of(row, "image_id", "image"), first["user"], others[-1]["model"], first["model"], **known)


def _rated_rows(
    images: list[Any], prompt: Any, answers: list[Row], known: Row, row_id: Any, only_extremes: bool = False
) -> list[Row]:
    pairs, left_out = rated_pairs(answers, only_extremes)
    made = [
        (
            images,
            prompt,
            better["text"],
            worse["text"],
            {
                **known,
                "chosen_model": better["writer"],
                "rejected_model": worse["writer"],
                "chosen_rating": better.get("score", better["rating"]),
                "rejected_rating": worse.get("score", worse["rating"]),
            },
        )
        for better, worse in pairs
    ]
    return rows_of(made, row_id, left_out)


def _mean(ratings: list[float | None]) -> float | None:
    """Mean of ratings, `None` if there is none or one is no number."""
    numbers = [rating for rating in ratings if rating is not None]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(ratings) else None


def _by_model(values: Any) -> dict[Any, Any]:
    """Values by the name of the model, of a list by its place."""
    return dict(enumerate(values)) if isinstance(values, list) else values if isinstance(values, dict) else {}


def _by_place(ranking: Any) -> dict[Any, float]:
    """Rank of each place of a list."""
    ranks = {place: rating_of(rank) for place, rank in _by_model(ranking).items()}
    return {place: rank for place, rank in ranks.items() if rank is not None}


def _ranks(ranking: Any) -> dict[Any, float]:
    """Rank of each model, lower for better, of a ranking in one of its spellings."""
    if isinstance(ranking, str) and ranking.strip()[:1] not in ("{", "["):
        ranking = [place.split("=") for place in ranking.split(">")]
    ranking = parsed(ranking)
    if isinstance(ranking, dict):
        ranks = {model: rating_of(rank) for model, rank in ranking.items()}
        return {model: rank for model, rank in ranks.items() if rank is not None}
    places = [place if isinstance(place, list) else [place] for place in ranking]
    return {model.strip(): float(rank) for rank, models in enumerate(places) for model in models}


def _critique(turn: dict[str, Any]) -> str | None:
    return next((turn[name] for name in ("critique NLF", "critique_NLF") if isinstance(turn.get(name), str)), None)
