"""What the judge of LLaVA-Bench is told, in our words; `rule.json` of the published data goes before `RULE`."""

SYSTEM = "You check how good answers are. You are precise, and your remarks help their authors."

RULE = """\
Above are a question that someone asked about an image, a few sentences that say what is in this image, and the answers
of two assistants. Judge how helpful, relevant, accurate and detailed each answer is, taking these sentences for the
truth about the image. Give each assistant one overall score from 1 to 10, where more is better.
Your first line must hold two numbers and nothing else: the score of Assistant 1, a space, the score of Assistant 2.
From the second line on, give your reasons. Which answer comes first means nothing, so it must not sway you."""

ROLE = "Assistant"


def review_question(context: str, question: str, reference: str, answer: str, role: str, rule: str) -> str:
    """
    The text to judge: sections in the published order, GPT-4's answer always first.

    Args:
        context (`str`): what is in the image.
        question (`str`): what was asked.
        reference (`str`): GPT-4's answer.
        answer (`str`): the model's.
        role (`str`): what both are called, such as `"Assistant"`.
        rule (`str`): what to do.
    """
    return (
        f"[Context]\n{context}\n\n[Question]\n{question}\n\n"
        f"[{role} 1]\n{reference}\n\n[End of {role} 1]\n\n"
        f"[{role} 2]\n{answer}\n\n[End of {role} 2]\n\n"
        f"[System]\n{rule}\n\n"
    )
