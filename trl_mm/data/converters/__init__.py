"""
From rows of published datasets to rows of the format: pure functions of one row.

A converter returns a row, or a list of them, or raises `LeftOut` for what is no pair. Images stay as they are stored.
What the dataset says of its rows stays beside them: `dataset`, `source`, `chosen_model` and `rejected_model` (who
wrote the answers), `chosen_rating` and `rejected_rating`, `is_safety`, and more where it is named.

Published datasets:

| Dataset | Hub id | Converter | What is read |
|---|---|---|---|
| RLHF-V | openbmb/RLHF-V-Dataset | `rlhf_v` | parquet; older JSONL and TSV rows |
| RLHF-V, mirrored | llamafactory/RLHF-V | `sharegpt` | |
| RLAIF-V | openbmb/RLAIF-V-Dataset | `rlaif_v` | |
| RLAIF-V, formatted | trl-lib/rlaif-v, HuggingFaceH4/rlaif-v_formatted | none | rows of the format already |
| VLFeedback | MMInstruction/VLFeedback | `vlfeedback`, `vlfeedback_best_worst` | parquet; `vlfeedback_80k.jsonl` |
| VLFeedback, paired | Zhihui/VLFeedback | `sharegpt` | |
| POVID | YiyangZhou/POVID_preference_data_for_VLLMs | `povid` | images are COCO train2014 |
| CSR | made by its scripts | `povid` | images are COCO train2014 |
| LLaVA-RLHF | zhiqings/LLaVA-Human-Preference-10K | `llava_rlhf` | images are COCO train2017 |
| DRESS (NLF) | YangyiYY/LVLM_NLF | `nlf` | the JSONL files; images are COCO train2017 |
| BPO | renjiepi/BPO_Instruct | `bpo` | |
| SPA-VL | sqrti/SPA-VL | `spa_vl` | safety data |
| MM-RLHF | yifanzhang114/MM-RLHF | `mm_rlhf`, `mm_rlhf_pairs` | `data.jsonl`, `dpo_pairs.jsonl`; no videos |
| OmniAlign-V-DPO | PhoenixZ/OmniAlign-V-DPO | `omnialign_v`, or none | its JSONL files |
| MMPR | OpenGVLab/MMPR, MMPR-v1.1, MMPR-v1.2 | `mmpr` | annotations; meta files by `mmpr_meta.mmpr_annotations` |
| SENTINEL | psp-dada/SENTINEL | `sentinel` | images are Visual Genome |
| HA-DPO | juliozhao/hadpo-data | `ha_dpo` | `desc_data.json`, `pope_data.json`; images are Visual Genome |
| mDPO | fwnlp/mDPO-preference-data | `mdpo` | |
| OPA-DPO | made by its scripts | `opa_dpo` | |
| IC-VCO | OPPOer/IC-VCO-Dataset | `ic_vco` | `preference/train/metadata.parquet`; two pairs of two images |
| VisionArena-Battle | lmarena-ai/VisionArena-Battle | `vision_arena` | also others of Chatbot Arena; no ties |
| vision-feedback-mix | wangclnlp/vision-feedback-mix-binarized | `vision_feedback_mix` | |
| VL-RewardBench | MMInstruction/VL-RewardBench | `vl_rewardbench` | for `trl-mm judge`, never for training |
| LLaVA-Hound | ShareGPTVideo/train_video_and_instruction | `llava_hound` | nothing: videos are left out |
| LLaVA-Instruct | liuhaotian/LLaVA-Instruct-150K | `llava_instruct` | SFT rows |
| any in LLaMA-Factory's layouts | | `sharegpt`, `llama_factory_v1` | |
| any in ms-swift's layouts | | `ms_swift` | pairs and SFT rows |
| any with a question, two answers and images | | `generic` | columns by name and content |
"""

from collections.abc import Callable
from typing import Any

from .arena import vision_arena
from .conversations import llama_factory_v1, llava_rlhf, povid, sharegpt, vision_feedback_mix
from .detection import converter_of, nearest_converter
from .generic import generic
from .llava_instruct import llava_instruct
from .ms_swift import ms_swift
from .questions import llava_hound, mdpo, mm_rlhf_pairs, mmpr, omnialign_v, opa_dpo, rlaif_v, rlhf_v, spa_vl
from .rankings import bpo, mm_rlhf, nlf, vlfeedback, vlfeedback_best_worst
from .two_images import ic_vco
from .visual_genome import ha_dpo, sentinel
from .vl_rewardbench import vl_rewardbench


__all__ = ["CONVERTERS", "converter_of", "find_converter", "nearest_converter"]


def find_converter(name: str | None) -> Callable[[dict[str, Any]], Any] | None:
    """
    Converter of a name.

    Args:
        name (`str` or `None`): key of `CONVERTERS`; `None` for rows that need none.

    Raises:
        ValueError: there is no such converter.
    """
    if name is not None and name not in CONVERTERS:
        raise ValueError(f"`converter` must be one of {', '.join(CONVERTERS)}, got {name!r}.")
    return None if name is None else CONVERTERS[name]


# Name for `--converter`
CONVERTERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "llava_instruct": llava_instruct,
    "rlhf_v": rlhf_v,
    "rlaif_v": rlaif_v,
    "vlfeedback": vlfeedback,
    "vlfeedback_best_worst": vlfeedback_best_worst,
    "povid": povid,
    "llava_rlhf": llava_rlhf,
    "nlf": nlf,
    "bpo": bpo,
    "spa_vl": spa_vl,
    "mm_rlhf": mm_rlhf,
    "mm_rlhf_pairs": mm_rlhf_pairs,
    "omnialign_v": omnialign_v,
    "mmpr": mmpr,
    "sentinel": sentinel,
    "ha_dpo": ha_dpo,
    "mdpo": mdpo,
    "opa_dpo": opa_dpo,
    "vision_feedback_mix": vision_feedback_mix,
    "llava_hound": llava_hound,
    "ic_vco": ic_vco,
    "vision_arena": vision_arena,
    "sharegpt": sharegpt,
    "llama_factory_v1": llama_factory_v1,
    "ms_swift": ms_swift,
    "vl_rewardbench": vl_rewardbench,
    "generic": generic,
}
