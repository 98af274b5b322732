"""A row of each published dataset, by the converter that reads it: their columns and types, our texts."""

import base64
import io
import json

from PIL import Image


_FILE = io.BytesIO()
Image.new("RGBA", (3, 2), (255, 0, 0, 128)).save(_FILE, "PNG")
IMAGE = {"bytes": _FILE.getvalue(), "path": "1.png"}
BASE64 = base64.b64encode(IMAGE["bytes"]).decode()


def turns(*texts):
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]


def messages(*texts):
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def rated(writer, text, *ratings):
    aspects = ("Helpfulness", "Visual Faithfulness", "Ethical Considerations")
    annotations = {name: {"Rating": rating, "Rationale": "So."} for name, rating in zip(aspects, ratings, strict=True)}
    return {"annotations": annotations, "model": writer, "response": text}


ROWS = {
    "rlhf_v": {
        "ds_name": "RLHF-V",
        "image": IMAGE,
        "text": json.dumps({"question": "What is it?", "chosen": "A dog.", "rejected": "Two dogs."}),
        "origin_dataset": "coco",
        "origin_split": json.dumps({"model": "muffin", "type": "detailed"}),
        "idx": 7,
        "image_path": "coco/1.png",
    },
    "rlaif_v": {
        "ds_name": "RLAIF-V",
        "image": IMAGE,
        "question": "What is it?",
        "chosen": "A dog.",
        "rejected": "Two dogs.",
        "origin_dataset": "coco",
        "origin_split": json.dumps({"model": "llava15", "type": "detailed"}),
        "idx": "7",
        "image_path": "coco/1.png",
    },
    "vlfeedback": {
        "id": "wit-1",
        "prompt": "What is it?",
        "image": IMAGE,
        "models": ["a", "b", "c", "d"],
        "completions": [
            rated("a", "A dog.", "5", "5", "5"),
            rated("b", "Two dogs.", "3", "1", "5"),
            rated("c", "A cat.", "N/A", "1", "5"),
            rated("d", "A small dog.", "3", "1", "5"),
        ],
    },
    "povid": {
        "id": "33471",
        "image": "./data/coco/COCO_train2014_000000033471.jpg",
        "conversations": turns("<image>\nWhat is it?", "A dog."),
        "rejected_conversations": turns("<image>\nWhat is it?", "Two dogs."),
    },
    "llava_rlhf": {
        "id": "wpKlmZ",
        "image": "000000316520.jpg",
        "conversations": turns("<image>\nWhat is it?", "A bird.", "Sure?", "No."),
        "output_1": {"from": "llava", "value": "A cat."},
        "output_2": {"from": "llava", "value": "A dog."},
        "hallucination": False,
        "preference": 2,
    },
    "nlf": {
        "image_id": "000000316520.jpg",
        "caption": ["A dog.", "The dog."],
        "interaction": [
            {"user": "What is it?", "model": "Two dogs.", "rating": "2", "critique NLF": "There is one."},
            {"user": "Count again.", "model": "Three dogs.", "rating": "1", "critique_NLF": "No."},
            {"user": "There is one.", "model": "A dog.", "rating": "4", "critique_NLF": "Right."},
        ],
    },
    "bpo": {
        "prompt": "What is it?\n<image>",
        "image": "coco/train2017/1.jpg",
        "completions": [
            {"score": 1, "response": "It is a dog.", "type": "gt"},
            {"score": 1, "response": "A dog is shown.", "type": "gt-rephrased"},
            {"score": 0, "response": "There are two dogs.", "type": "mllm-hal"},
            {"score": 0, "response": "There are two dogs.", "type": "mllm-hal"},
            {"score": 0, "response": "Dogs.", "type": "llm-hal"},
        ],
    },
    "spa_vl": {
        "image": IMAGE,
        "question": "What is it?\n<image>",
        "chosen": "I would rather not say.",
        "rejected": "A dog.",
        "class1": "Harms",
        "class2": "Dogs",
        "class3": "Small",
    },
    "mm_rlhf": {
        "id": "a1",
        "question": "<image>\nWhat is it?",
        "answer": "A dog.",
        "image": "long/0.jpg",
        "video": None,
        "models_output": {"a": "A dog.", "b": "Two dogs.", "c": "A cat.", "d": None},
        "final_ranking": {"a": 1, "b": 2, "c": 2},
        "faithfulness": {"a": 5, "b": 3, "c": "2"},
        "helpfulness": {"a": 4, "b": 3, "c": "?"},
        "ethical": {"a": 3, "b": 3, "c": 3},
        "score_reasons": {"a": "So."},
        "ranking_reason": "So.",
    },
    "mm_rlhf_pairs": {
        "id": "a1",
        "prompt": "<image>\nWhat is it?",
        "image": "safety/0.jpg",
        "chosen": "A dog.",
        "rejected": "Two dogs.",
        "chosen_reason": "One.",
        "rejected_reason": "Two.",
        "is_tie": False,
        "scores": [5, 2],
    },
    "mmpr": {
        "image": "1.jpg",
        "question": "What is it?",
        "chosen": "It barks. Answer: dog",
        "rejected": "It purrs. Answer: cat",
        "answer_gt": "dog",
    },
    "sentinel": {
        "image_path": "/data/VG/VG_100K/2316003.jpg",
        "question": "Describe the image.",
        "context": "A man stands on a beach.",
        "y_win": "He holds a board.",
        "y_lose": "He holds an umbrella.",
    },
    "ha_dpo": {
        "image_id": 2316003,
        "question": "Is there a dog?",
        "answer": "no",
        "correct": False,
        "chosen": "No, there is none.",
        "reject": "Yes, there is a dog.",
    },
    "mdpo": {
        "img_path": "images/1.jpg",
        "prompt": "A chat. USER: <image>\nWhat is it? ASSISTANT:",
        "chosen": "A dog.",
        "rejected": "Two dogs.",
    },
    "opa_dpo": {
        "queries": "<image>\nWhat is it?",
        "image_bytes": BASE64,
        "standard_response": "It is a dog.",
        "original_generate_response": "Two dogs.",
        "AI_pseudo_response": "A dog.",
        "AI_json_report": "[]",
    },
    "vl_rewardbench": {
        "id": "RLAIF-V-7",
        "query": "What is it?",
        "image": IMAGE,
        "response": ["It is a dog.", "Two dogs."],
        "human_ranking": [0, 1],
        "query_source": "RLAIF-V",
    },
    "vision_feedback_mix": {
        "id": 7,
        "origin_pre_dataset": "RLHF-V",
        "image": IMAGE,
        "image_path": "1.png",
        "conversations": json.dumps(
            [
                {"from": "human", "value": "<image>What is it?"},
                {"from": "gpt", "preference_values": ["A dog.", "Two dogs."]},
            ]
        ),
    },
    "ic_vco": {
        "prompt": "What is it?",
        "chosen": "A dog.",
        "rejected": "Two dogs.",
        "images": ["images/1.jpg", "images/1_edited.jpg"],
        "chosen_response_spans": [[0, 1]],
        "rejected_response_spans": [[0, 3]],
    },
    "vision_arena": {
        "judge": "arena_user_7",
        "winner": "model_b",
        "num_turns": 1,
        "language": "English",
        "categories": {"ocr": True},
        "images": [IMAGE],
        "question_id": "ab12",
        "model_a": "a",
        "model_b": "b",
        "conversation_a": [[message] for message in messages("What is it?", "Two dogs.")],
        "conversation_b": [[message] for message in messages("What is it?", "A dog.")],
        "tstamp": 1.0,
        "conv_metadata": {"turns": 1},
    },
    "llava_hound": {
        "id": "v1",
        "video": "v1/",
        "prompt": "<video>\nWhat happens?",
        "answer": "A dog runs.",
        "chosen": "A dog runs.",
        "rejected": "A cat runs.",
        "chosen_score": 5,
        "rejected_score": 2,
    },
    "sharegpt": {
        "conversations": turns("<image>What is it?"),
        "chosen": turns("", "A dog.")[1],
        "rejected": turns("", "Two dogs.")[1],
        "images": [IMAGE],
    },
    "llama_factory_v1": {
        "chosen_messages": [
            {
                "role": "user",
                "content": [{"type": "image_url", "value": "1.jpg"}, {"type": "text", "value": "What is it?"}],
                "loss_weight": 0.0,
            },
            {"role": "assistant", "content": [{"type": "text", "value": "A dog."}], "loss_weight": 1.0},
        ],
        "rejected_messages": [
            {
                "role": "user",
                "content": [{"type": "image_url", "value": "1.jpg"}, {"type": "text", "value": "What is it?"}],
                "loss_weight": 0.0,
            },
            {"role": "assistant", "content": [{"type": "text", "value": "Two dogs."}], "loss_weight": 1.0},
        ],
    },
    "ms_swift": {
        "messages": messages("<image>What is it?", "A dog."),
        "rejected_response": "Two dogs.",
        "images": ["1.jpg"],
    },
    "llava_instruct": {
        "id": "33471",
        "image": "000000033471.jpg",
        "conversations": turns("<image>\nWhat is it?", "A dog.", "Sure?", "Yes."),
    },
    "generic": {
        "question": "What is it?",
        "preferred": "A dog.",
        "dispreferred": "Two dogs.",
        "img_path": "1.jpg",
        "licence": "CC0",
    },
}
# Of OmniAlign-V-DPO, and of anybody who writes columns of the format
PLAIN_ROW = {"id": 0, "image": "knowledge/0.jpg", "prompt": "What is it?", "chosen": "A dog.", "rejected": "Two dogs."}
# Further layouts of the same datasets
OTHER_ROWS = {
    "rlhf_v": [
        {**ROWS["rlhf_v"], "text": {"question": "What is it?", "chosen": "A dog.", "rejected": "Two dogs."}},
        {
            "dataset_name": "coco",
            "img_b64_buffer": BASE64,
            "text_b64": "eyJxdWVzdGlvbiI6ICJXaGF0PyIsICJjaG9zZW4iOiAiQSBkb2cuIiwgInJlamVjdGVkIjogIk5vLiJ9",
            "origin_split_inner_idx": 3,
        },
    ],
    "vlfeedback": [
        {
            "id": "wit-1",
            "prompt": "What is it?",
            "img_path": "merged_images/1.jpg",
            "models": ["a", "b"],
            "completions": {
                "annotations": {
                    "Helpfulness": {"Rating": ["5", "3"], "Rationale": ["So.", "So."]},
                    "Visual Faithfulness": {"Rating": ["4", "3"], "Rationale": ["So.", "So."]},
                },
                "model": ["a", "b"],
                "response": ["A dog.", "Two dogs."],
            },
        }
    ],
    "mm_rlhf": [
        {
            "id": "a1",
            "question": "What is it?",
            "image": "short/0.jpg",
            "models_output": ["A dog.", "Two dogs.", "A cat."],
            "final_ranking": [1, 2, 2],
            "faithfulness": [5, 3, 2],
            "helpfulness": [4, 3, None],
            "ethical": [3, 3, 3],
        }
    ],
    "llama_factory_v1": [
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "value": "1.jpg"}, {"type": "text", "value": "What is it?"}],
                },
                {"role": "assistant", "content": [{"type": "text", "value": "A dog."}]},
            ]
        }
    ],
    "ha_dpo": [{"image_id": 2316003, "chosen": ["A man.", "One man."], "rejected": ["Two men.", "A dog.", "No man."]}],
    "ms_swift": [
        {"query": "<img>1.jpg</img>What is it?", "response": "A dog.", "rejected_response": "No.", "history": None},
        {
            "messages": messages("<image>What is it?", "A dog."),
            "rejected_messages": messages("<image>What is it?", "Two dogs."),
            "images": ["1.jpg"],
            "rejected_images": ["1.jpg"],
        },
        {"system": "Be brief.", "conversation": [{"human": "Who?", "assistant": "Me."}]},
        {
            "messages": messages("<image>What is it?", "A dog."),
            "rejected_response": ["No.", "Two."],
            "images": ["1.jpg"],
        },
    ],
    "generic": [
        {"prompt": "What is it?", "chosen": "A dog.", "rejected": "Two dogs.", "img": IMAGE},
        {"Prompt": "What is it?", "y_w": "A dog.", "y_l": "Two dogs.", "photo of it": IMAGE},
    ],
}
