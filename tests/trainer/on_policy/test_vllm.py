"""Our side of vLLM, which runs in no test: a fake engine notes what it is handed, and what becomes of its answers."""

from types import SimpleNamespace

import pytest
import torch
from support.rows import image_dataset
from support.tiny import bare_processor, tiny_image, tiny_model, tiny_processor, tiny_row
from support.training import FirstIsBetter

from trl_mm import MMOnlineDPOConfig, MMOnlineDPOTrainer
from trl_mm.trainer.on_policy.vllm import check_prompts


END = 1


class FakeEngine:
    """Answers as vLLM does: it expands the prompt with the real processor, and each sample ends with the EOS token."""

    def __init__(self, expand=True, processor=None):
        self.processor, self.expand = processor or tiny_processor(), expand
        self.weights, self.asked, self.resets, self.slept = [], [], 0, []
        model = SimpleNamespace(load_weights=lambda pairs: self.weights.extend(name for name, _ in pairs))
        runner = SimpleNamespace(model_runner=SimpleNamespace(model=model))
        self.llm_engine = SimpleNamespace(model_executor=SimpleNamespace(driver_worker=runner))

    def reset_prefix_cache(self):
        self.resets += 1

    def wake_up(self, tags):
        self.slept.append(tags[0])

    def sleep(self, level):
        self.slept.append("sleep")

    def read(self, ids, images):
        if not images or not self.expand:
            return ids
        text = self.processor.tokenizer.decode(ids)
        return self.processor(images=images, text=text, add_special_tokens=False)["input_ids"][0]

    def answers(self, count):
        image = self.processor.image_token_id
        return [[[40 + number, 41, END], [50 + number, image, 52]] for number in range(count)]

    def generate(self, prompts, settings, use_tqdm):
        self.asked += zip(prompts, settings, strict=True)
        return [
            SimpleNamespace(
                prompt_token_ids=self.read(
                    prompt["prompt_token_ids"], prompt.get("multi_modal_data", {}).get("image")
                ),
                outputs=[SimpleNamespace(token_ids=ids) for ids in answers],
            )
            for prompt, answers in zip(prompts, self.answers(len(prompts)), strict=True)
        ]


class FakeServer(FakeEngine):
    def weight_update(self):
        import contextlib

        return contextlib.nullcontext()

    def update_named_param(self, name, value):
        self.weights.append(name)

    def chat(self, messages, **settings):
        self.asked += [(conversation, settings) for conversation in messages]
        prompts = []
        for conversation in messages:
            images = [p["image"] for m in conversation for p in m["content"] if p["type"] == "image"]
            text = self.processor.apply_chat_template(conversation, add_generation_prompt=True)
            special = settings["generation_kwargs"]["add_special_tokens"]
            ids = self.processor.tokenizer(text, add_special_tokens=special)["input_ids"]
            prompts.append(self.read(ids, images))
        return {"prompt_ids": prompts, "completion_ids": [ids for pair in self.answers(len(messages)) for ids in pair]}


def rows():
    made = [
        {name: row[name] for name in ("images", "prompt", "row_id")}
        for row in (tiny_row(seed, size=(30 + 10 * seed, 40)) for seed in range(3))
    ]
    made[1]["images"] = []
    made[2]["images"] = [tiny_image(5), tiny_image(6, (60, 30))]
    return made


def trainer(tmp_path, engine, mode, **settings):
    args = MMOnlineDPOConfig(
        str(tmp_path),
        per_device_train_batch_size=3,
        max_steps=2,
        max_new_tokens=5,
        learning_rate=1e-2,
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        bf16=False,
        use_cpu=True,
        **settings,
    )
    made = MMOnlineDPOTrainer(
        tiny_model(scale=4),
        judge=FirstIsBetter(),
        args=args,
        train_dataset=image_dataset(rows()),
        processing_class=engine.processor,
    )
    # What TRL sets up with `use_vllm=True`, for which it wants vLLM
    made.use_vllm, made.vllm_mode, made._last_loaded_step, made.structured_outputs_regex = True, mode, -1, None
    made.llm = made.vllm_client = engine
    made.generation_config = SimpleNamespace(max_tokens=5, seed=None, bad_words=None)
    return made


@pytest.mark.parametrize("processor", [tiny_processor, bare_processor])
@pytest.mark.parametrize(("mode", "engine"), [("colocate", FakeEngine), ("server", FakeServer)])
def test_images_and_tokens_are_those_of_the_loss(tmp_path, monkeypatch, mode, engine, processor):
    engine = engine(processor=processor())
    ours = trainer(tmp_path, engine, mode)
    batches = []
    loss = ours.compute_loss
    monkeypatch.setattr(
        ours, "compute_loss", lambda model, inputs, **k: batches.append(dict(inputs)) or loss(model, inputs, **k)
    )
    ours.train()

    assert len(engine.asked) == 6 and engine.resets == 2
    assert set(engine.weights) == {name for name, _ in ours.model.named_parameters()}
    sizes = sorted(image.size for row in rows() for image in row["images"])
    if mode == "colocate":
        given = [
            image for prompt, _ in engine.asked[:3] for image in prompt.get("multi_modal_data", {}).get("image", [])
        ]
        assert all(settings.bad_words == ["<image>"] for _, settings in engine.asked)
        assert len({settings.seed for _, settings in engine.asked}) == 6
    else:
        given = [p["image"] for c, _ in engine.asked[:3] for m in c for p in m["content"] if p["type"] == "image"]
        settings = engine.asked[0][1]
        assert settings["n"] == 2 and settings["max_tokens"] == 5 and settings["temperature"] == 0.9
        assert settings["generation_kwargs"]["bad_words"] == ["<image>"]
    assert sorted(image.size for image in given) == sizes
    # The policy reads the pixels of all three images, and the answers as the engine gave them
    batch = batches[0]
    assert len(batch["pixel_values"]) == 3
    answers = [ids[mask == 1].tolist() for ids, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True)]
    assert sorted(answers) == sorted([[40 + n, 41, END] for n in range(3)] + [[50 + n, END] for n in range(3)])


def test_a_prompt_that_vllm_read_otherwise_is_refused(tmp_path):
    engine = FakeEngine()
    engine.read = lambda ids, images: [7, *ids]
    with pytest.raises(ValueError, match="vLLM read a prompt of .* tokens where the processor makes"):
        trainer(tmp_path, engine, "colocate").train()


def test_a_server_may_report_one_token_for_each_image(tmp_path):
    trainer(tmp_path, FakeServer(expand=False), "server").train()
    batch = {"input_ids": torch.tensor([[9, 2, 2, 2, 9, 5]]), "completion_mask": torch.tensor([[0, 0, 0, 0, 0, 1]])}
    check_prompts(batch, [[9, 2, 9]], [2])
    with pytest.raises(ValueError, match="3 tokens where"):
        check_prompts(batch, [[9, 2, 9]])
    with pytest.raises(ValueError, match="4 tokens where"):
        check_prompts(batch, [[9, 2, 2, 9]], [2])


def test_weights_are_sent_once_per_step_and_sleep_is_kept(tmp_path):
    engine = FakeEngine()
    ours = trainer(tmp_path, engine, "colocate", gradient_accumulation_steps=2, vllm_enable_sleep_mode=True)
    ours.train()
    assert engine.resets == 2
    assert engine.slept[:3] == ["weights", "kv_cache", "sleep"]


def test_every_process_comes_even_without_rows_to_sample(tmp_path):
    engine = FakeEngine()
    ours = trainer(tmp_path, engine, "colocate")
    ours.offline_probability = 0.5
    assert ours.sampler([])[0] == []
    assert engine.resets == 1
