"""A tiny LLaVA-NeXT for the Shapes world, with its real processor, anyres tiles included.

A real vision-language model gets a vision tower that has learned to see already. So does this one: the tower first
learns to tell which types are on a tile, by transformers' own classifier, in a few seconds.
"""

import random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPConfig,
    CLIPForImageClassification,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from world import CAPTION_PROMPTS, CELL, GRID, TYPES, draw, sentence


TILE = CELL * GRID // 2  # pixels: an image is a base view of this size and 2 x 2 tiles
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% if message['role'] == 'assistant' %}</s>{% else %} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def make_processor():
    """LLaVA-NeXT's processor with a tokenizer of the world's words."""
    texts = [f"{sentence(name)} {sentence(name)} Is there a {name} in the image? Yes. No." for name in TYPES]
    texts += [f"USER: \n{prompt} ASSISTANT: There" for prompt in CAPTION_PROMPTS]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts * 5,
        trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=["<pad>", "</s>", "<image>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return LlavaNextProcessor(
        LlavaNextImageProcessorPil(
            size={"shortest_edge": TILE},
            crop_size={"height": TILE, "width": TILE},
            image_grid_pinpoints=[[2 * TILE, 2 * TILE]],
        ),
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token="<pad>",
            eos_token="</s>",
            extra_special_tokens={"image_token": "<image>"},
        ),
        patch_size=CELL,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=CHAT_TEMPLATE,
    )


def make_model(processor, seed):
    """Untrained model (about 1.5M parameters) whose vision tower has learned to see."""
    set_seed(seed)
    tokenizer = processor.tokenizer
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=TILE,
            patch_size=CELL,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.eos_token_id,
        ),
        image_token_index=processor.image_token_id,
        image_grid_pinpoints=processor.image_processor.image_grid_pinpoints,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    model = LlavaNextForConditionalGeneration(config)
    tower = train_tower(processor, config.vision_config, seed)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    return model


def train_tower(processor, vision_config, seed, steps=150, batch_size=64):
    """Vision tower that tells which types are on a tile of up to four of them."""
    rng = random.Random(f"{seed} tower")
    examples = []
    for _ in range(steps * batch_size):
        names = rng.sample(TYPES, rng.randint(1, 4))
        labels = torch.tensor([float(name in names) for name in TYPES])
        examples.append((draw(rng, names, grid=2), labels))

    def collate(batch):
        settings = processor.image_processor
        pixels = torch.stack([torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8) for image, _ in batch])
        pixels = pixels.view(len(batch), TILE, TILE, 3).permute(0, 3, 1, 2).float() / 255  # (B, 3, H, W)
        mean, deviation = (torch.tensor(v)[:, None, None] for v in (settings.image_mean, settings.image_std))
        return {"pixel_values": (pixels - mean) / deviation, "labels": torch.stack([label for _, label in batch])}

    classifier = CLIPForImageClassification(
        CLIPConfig(
            vision_config=vision_config.to_dict(),
            num_labels=len(TYPES),
            problem_type="multi_label_classification",
        )
    )
    arguments = TrainingArguments(
        output_dir="unused",
        per_device_train_batch_size=batch_size,
        num_train_epochs=1,
        learning_rate=2e-3,
        warmup_steps=20,
        max_grad_norm=1.0,
        save_strategy="no",
        report_to="none",
        logging_steps=50,
        remove_unused_columns=False,
        seed=seed,
        use_cpu=not torch.cuda.is_available(),
    )
    Trainer(classifier, arguments, data_collator=collate, train_dataset=examples).train()
    return classifier.vision_model
