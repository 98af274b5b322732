"""Whether BDHS works as it should, in a few numbers."""

from .modes import MODES


COLUMNS = ("bdhs_attempts", "bdhs_similarity", "bdhs_guided")


def pair_metrics(attempts, similarities, guided, config):
    """
    Metrics of pairs.

    Args:
        attempts (`list[int]`): attempts made for each row.
        similarities (`list[float]`): similarity of each rejected answer to the chosen one.
        guided (`list[bool]`): whether sentences of the chosen answer guided it.
        config ([`BDHSConfig`]): how the pairs were made.

    Returns:
        `dict[str, float]`: `bdhs/attempts`, `bdhs/similarity`, `bdhs/unguided_rate` and, unless `mode="povid"`, which
        has no gate, `bdhs/acceptance_rate`.
    """
    metrics = {
        "bdhs/attempts": sum(attempts) / len(attempts),
        "bdhs/similarity": sum(similarities) / len(similarities),
        "bdhs/unguided_rate": 1 - sum(guided) / len(guided),
    }
    if not MODES[config.mode].teacher_forced:
        accepted = [
            was_accepted(similarity, is_guided, config.guided, config.similarity_threshold)
            for similarity, is_guided in zip(similarities, guided, strict=True)
        ]
        metrics["bdhs/acceptance_rate"] = sum(accepted) / len(accepted)
    return metrics


def was_accepted(similarity, is_guided, guided, similarity_threshold):
    """Whether the gate let an answer through. What fell back to the unguided attempt was kept unchecked."""
    return not (guided and not is_guided) and similarity < similarity_threshold
