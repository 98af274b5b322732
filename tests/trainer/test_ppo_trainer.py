"""`MMPPOTrainer` beside an implementation in loops: whole sequences, one answer at a time, nothing shared."""

import json
import math
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from support.families import FAMILIES
from support.rows import image_dataset
from support.tiny import TRAINING, tiny_image, tiny_processor, tiny_row
from transformers import AutoModelForImageTextToText, AutoModelForSequenceClassification, TrainerCallback

from trl_mm import MMPPOConfig, MMPPOTrainer, RewardModel
from trl_mm.data.seeds import derived_seed


ANSWERS = ["There is a red circle.", "Yes.", "No, there is none.", "A dog and a cat sit on a sofa."]
LANGUAGE = r".*(language|text)_model.*(q|v)_proj"


def by_length(completions, **columns):
    return [len(completion[0]["content"]) / 10 for completion in completions]


def prompts(count=4, seeds=None):
    rows = [tiny_row(seed, size=(40, 40)) for seed in seeds or range(count)]
    return image_dataset(
        [{"images": row["images"], "prompt": row["prompt"], "row_id": str(n)} for n, row in enumerate(rows)]
    )


def arguments(folder, **settings):
    defaults = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "max_completion_length": 10,
        "num_iterations": 2,
        "max_steps": 2,
        "learning_rate": 0.1,
        "beta": 0.4,
        "vf_coef": 0.5,
        "optim": "sgd",
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "gradient_checkpointing": False,
        **TRAINING,
    }
    return MMPPOConfig(**{**defaults, **settings})


def lora(**settings):
    return LoraConfig(r=2, lora_alpha=16, target_modules=LANGUAGE, **settings)


class SaysSo(MMPPOTrainer):
    """Answers are set: long, short, equal and cut ones."""

    def sample(self, rollout):
        tokenizer, answers = self.processing_class.tokenizer, []
        for number in range(len(rollout.numbers)):
            seed = derived_seed(self.state.global_step, number)
            ids = tokenizer(ANSWERS[seed % len(ANSWERS)])["input_ids"]
            answers.append(ids[:10] if seed % 3 == 0 else [*ids[:8], tokenizer.eos_token_id])
        return answers


def make(model, folder, cls=SaysSo, reward_funcs=by_length, rows=None, peft_config=None, **settings):
    """A trainer whose adapters do something from the beginning."""
    processor = settings.pop("processing_class", None)
    trainer = cls(
        model,
        reward_funcs,
        arguments(folder, **settings),
        prompts() if rows is None else rows,
        peft_config=peft_config or lora(),
        processing_class=processor,
    )
    torch.manual_seed(5)
    for name, weight in sorted(trainer.model.named_parameters()):
        if "lora_B" in name or "score.modules_to_save" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return trainer


def entries(trainer):
    if not trainer.state.log_history:
        trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


@pytest.fixture(scope="module")
def adapter(checkpoint, tmp_path_factory):
    """A reward model's adapters, as they are saved."""
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=1)
    torch.nn.init.normal_(model.score.weight, std=0.5)
    made = get_peft_model(model, lora(task_type="SEQ_CLS"))
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    made.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)


class Plain:
    """PPO by the book."""

    def __init__(self, trainer, batch, scores):
        self.trainer, self.args = trainer, trainer.args
        self.policy, self.value = trainer.model, trainer.value_model.get_base_model()
        rollout = batch["rollout"]
        self.answers = [
            ids[mask.bool()] for ids, mask in zip(batch["completion_ids"], batch["completion_mask"], strict=True)
        ]
        self.rows = [rollout.rows[number] for number in rollout.numbers]
        self.scores = scores

    def read(self, row, answer):
        """Log-probabilities, and values, of the tokens of an answer."""
        processor = self.trainer.processing_class
        message = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Describe the image."}]}]
        text = processor.apply_chat_template(message, add_generation_prompt=True)
        inputs = processor(text=text, images=row["images"], return_tensors="pt")
        inputs["input_ids"] = torch.cat([inputs["input_ids"], answer[None]], 1)
        for name in ("attention_mask", "mm_token_type_ids", "token_type_ids"):
            if name in inputs:
                filling = torch.full((1, len(answer)), int(name == "attention_mask"))
                inputs[name] = torch.cat([inputs[name], filling], 1)
        logits = self.policy(**inputs).logits[0, -len(answer) - 1 : -1] / self.args.temperature
        log_probs = logits.log_softmax(-1)[range(len(answer)), answer]
        states = self.value.base_model(**inputs).last_hidden_state[0, -len(answer) - 1 : -1]
        return log_probs, self.value.score(states)[:, 0]

    @torch.no_grad()
    def look_back(self):
        self.old, self.old_values, self.advantages, self.returns = [], [], [], []
        for row, answer, score in zip(self.rows, self.answers, self.scores, strict=True):
            log_probs, values = self.read(row, answer)
            with self.policy.disable_adapter():
                reference, _ = self.read(row, answer)
            rewards = (-self.args.beta * (log_probs - reference)).tolist()
            rewards[-1] += score
            advantages, following, next_value = [], 0.0, 0.0
            for reward, value in zip(reversed(rewards), reversed(values.tolist()), strict=True):
                following = reward + self.args.gamma * next_value - value + self.args.gamma * self.args.lam * following
                next_value = value
                advantages.insert(0, following)
            self.old.append(log_probs)
            self.old_values.append(values)
            self.advantages.append(torch.tensor(advantages))
            self.returns.append(torch.tensor(advantages) + values)
        together = torch.cat(self.advantages)
        self.advantages = [(a - together.mean()) / (together.var() + 1e-8).sqrt() for a in self.advantages]

    def loss(self):
        of_policy, of_values, count = 0.0, 0.0, 0
        for index, (row, answer) in enumerate(zip(self.rows, self.answers, strict=True)):
            log_probs, values = self.read(row, answer)
            for t in range(len(answer)):
                ratio, advantage = (log_probs[t] - self.old[index][t]).exp(), self.advantages[index][t]
                of_policy += max(-advantage * ratio, -advantage * ratio.clamp(0.8, 1.2))
                old, target = self.old_values[index][t], self.returns[index][t]
                near = values[t].clamp(old - 0.2, old + 0.2)
                of_values += max((values[t] - target) ** 2, (near - target) ** 2) / 2
                count += 1
        return (of_policy + self.args.vf_coef * of_values) / count


@pytest.mark.parametrize("family", ["llava_next", "llava", "qwen2_vl"])
@pytest.mark.parametrize("settings", [{}, {"prefix_sharing": False, "beta": 0.1}, {"num_generations": 2}], ids=str)
def test_steps_are_those_of_a_plain_implementation(family, settings, tmp_path):
    model, processor = FAMILIES[family]()
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    settings = {**settings, "processing_class": processor}
    trainer, plain = (make(str(folder), tmp_path / "out", **settings) for _ in range(2))
    batches = []
    generate = trainer._generate_and_score_completions
    trainer._generate_and_score_completions = lambda inputs: batches.append(generate(inputs)) or batches[-1]
    logs = entries(trainer)
    (batch,) = batches
    assert batch["completion_mask"].sum(1).unique().numel() > 1
    by_hand = Plain(plain, batch, batch["rewards"].tolist())
    by_hand.look_back()
    trained = [weight for weight in plain.model.parameters() if weight.requires_grad]
    for log in logs:  # two passes over the same answers: in the second, ratios are not 1
        loss = by_hand.loss()
        assert log["loss"] == pytest.approx(loss.item(), rel=1e-4, abs=1e-4)
        for weight, gradient in zip(trained, torch.autograd.grad(loss, trained), strict=True):
            weight.data -= 0.1 * gradient
    assert logs[0]["policy/clipfrac_avg"] == 0 < logs[1]["policy/approxkl_avg"]
    expected = dict(plain.model.named_parameters())
    for name, weight in trainer.model.named_parameters():
        torch.testing.assert_close(weight, expected[name], atol=2e-4, rtol=1e-3)


def test_gradients_reach_policy_and_value_model_only(checkpoint, adapter, tmp_path):
    trainer = make(checkpoint, tmp_path, reward_funcs=[adapter, by_length], max_steps=2)
    reward = trainer.reward_funcs[0].model
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    of_reward = {name: weight.clone() for name, weight in reward.named_parameters()}
    trainer.train()
    changed = {name for name, weight in trainer.model.named_parameters() if not torch.equal(weight, before[name])}
    assert changed == {name for name in before if "lora" in name or "score.modules_to_save" in name}
    assert all(torch.equal(weight, of_reward[name]) for name, weight in reward.named_parameters())
    size = sum(weight.numel() for weight in AutoModelForImageTextToText.from_pretrained(checkpoint).parameters())
    together = torch.nn.ModuleList([trainer.model, reward])
    assert sum(weight.numel() for weight in together.parameters()) < 1.2 * size


def test_the_reward_on_the_shared_base_is_that_of_the_reward_model(checkpoint, adapter, tmp_path):
    logs = [
        entries(make(checkpoint, tmp_path, reward_funcs=reward))
        for reward in (adapter, RewardModel(adapter, tiny_processor()))
    ]
    names = ["loss", "reward", "objective/scores", "loss/value_avg"]
    for shared, alone in zip(*logs, strict=True):
        there = [name for name in names if name in alone]  # rewards are logged when answers are sampled
        assert [shared[name] for name in there] == pytest.approx([alone[name] for name in there], abs=1e-5)
    assert set(names) <= set(logs[0][0])
    assert f"rewards/{adapter.split('/')[-1]}/mean" in logs[0][0]


def test_rewards_of_a_reward_model_are_put_on_the_scale_of_the_rows(checkpoint, adapter, tmp_path):
    rows = prompts().add_column("chosen", [[{"role": "assistant", "content": text}] for text in ANSWERS])
    plain, scaled = (
        make(checkpoint, tmp_path, reward_funcs=adapter, rows=rows, normalize_rewards=value) for value in (False, True)
    )
    scale = json.loads((tmp_path / "reward_scale.json").read_text())
    ((mean, std),) = scale["scales"]
    assert scale["weights"] != [None]
    expected = (entries(plain)[0]["objective/scores"] - mean) / std
    assert entries(scaled)[0]["objective/scores"] == pytest.approx(expected, abs=1e-4)


def test_another_image_is_another_value_reward_and_loss(checkpoint, adapter, tmp_path):
    """TRL's RLOO scores an answer by a model without the image."""
    seen = []
    for seeds in (range(4), range(50, 54)):
        trainer = make(checkpoint, tmp_path, reward_funcs=adapter, rows=prompts(seeds=seeds), max_steps=1)
        generate, batches = trainer._generate_and_score_completions, []
        trainer._generate_and_score_completions = lambda x, g=generate, b=batches: b.append(g(x)) or b[-1]
        loss = entries(trainer)[0]["loss"]
        seen.append((batches[0]["values"], batches[0]["rewards"], torch.tensor(loss)))
    for one, other in zip(*seen, strict=True):
        assert not torch.allclose(one, other, atol=1e-4)


def test_saved_models_are_adapters_that_anything_loads(checkpoint, tmp_path):
    trainer = make(checkpoint, tmp_path / "out")
    trainer.train()
    trainer.save_model()
    saved = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert len(saved) == sum(
        "lora" in name for name, _ in trainer.model.named_parameters() if "value_model" not in name
    )
    trainer.model.eval()
    inputs = tiny_processor()(text="USER: <image>\nWhat?", images=tiny_image(0), return_tensors="pt")
    policy = AutoModelForImageTextToText.from_pretrained(checkpoint)
    policy = PeftModel.from_pretrained(policy, tmp_path / "out").eval()
    value = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=1)
    value = PeftModel.from_pretrained(value, tmp_path / "out" / "value").eval()
    with torch.no_grad():
        assert torch.allclose(policy(**inputs).logits, trainer.model(**inputs).logits, atol=1e-6)
        assert torch.allclose(value(**inputs).logits, trainer.value_model(**inputs).logits, atol=1e-6)
    assert value(**inputs).logits.item() != 0
    assert trainer.model.value_model is trainer.value_model
    # It goes on as a reward model would: the next run's values begin where these end
    args = arguments(tmp_path / "next", value_adapter=str(tmp_path / "out" / "value"))
    again = MMPPOTrainer(checkpoint, by_length, args, prompts(), peft_config=lora())
    with torch.no_grad():
        assert torch.allclose(again.value_model.eval()(**inputs).logits, value(**inputs).logits, atol=1e-6)


class StopAfter(TrainerCallback):
    def __init__(self, steps):
        self.steps = steps

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.steps


@pytest.mark.parametrize("steps", [2, 3], ids=["between rollouts", "within one"])
def test_a_killed_run_ends_as_an_undisturbed_one(checkpoint, tmp_path, steps):
    settings = {
        "max_steps": 4, "save_strategy": "steps", "save_steps": steps, "cls": MMPPOTrainer, "optim": "adamw_torch",
        "learning_rate": 1e-2,
    }  # fmt: skip
    whole = make(checkpoint, tmp_path / "whole", **settings)
    expected = [entry["loss"] for entry in entries(whole)]
    killed = make(checkpoint, tmp_path / "killed", **settings)
    killed.add_callback(StopAfter(steps))
    killed.train()
    again = make(checkpoint, tmp_path / "killed", **settings)
    again.train(resume_from_checkpoint=True)
    assert [entry["loss"] for entry in entries(again)] == pytest.approx(expected, abs=1e-6)
    for left, right in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.allclose(left, right, atol=1e-6)


def test_a_checkpoint_without_a_value_model_is_refused(checkpoint, tmp_path):
    trainer = make(checkpoint, tmp_path / "out")
    trainer.save_model()
    (tmp_path / "out" / "value").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="no folder `value` with the value model"):
        trainer._load_from_checkpoint(str(tmp_path / "out"))


def test_answers_without_a_reward_do_not_train(checkpoint, tmp_path):
    def some(completions, **columns):
        return [None if number % 2 else 1.0 for number in range(len(completions))]

    trainer = make(checkpoint, tmp_path, reward_funcs=some)
    batch = trainer._generate_and_score_completions([prompts()[index] for index in range(4)])
    counted = batch["loss_mask"].any(1)
    assert counted.tolist() == [True, False, True, False]
    assert not batch["advantages"][1].any() and not batch["returns"][3].any()
    assert all(math.isfinite(log["loss"]) for log in entries(trainer))
    none = make(checkpoint, tmp_path, reward_funcs=lambda completions, **columns: [None] * len(completions))
    assert [log["loss"] for log in entries(none)] == [0.0, 0.0]


def test_a_token_weighs_the_same_however_a_batch_is_split(checkpoint, tmp_path):
    """One step of four answers, and two half steps of two."""
    settings = {"max_steps": 1, "num_iterations": 1, "cls": SaysSo}
    whole = make(checkpoint, tmp_path, **settings)
    parts = make(checkpoint, tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2, **settings)
    assert entries(whole)[0]["loss"] == pytest.approx(entries(parts)[0]["loss"], abs=1e-5)
    for left, right in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.allclose(left, right, atol=1e-5)


def test_gradient_checkpointing_changes_nothing(checkpoint, adapter, tmp_path):
    plain, again = (
        entries(make(checkpoint, tmp_path, reward_funcs=adapter, max_steps=3, gradient_checkpointing=value))
        for value in (False, True)
    )
    for one, other in zip(plain, again, strict=True):
        names = ["loss", "loss/value_avg", "val/ratio", "grad_norm"]
        assert [one[name] for name in names] == pytest.approx([other[name] for name in names], abs=1e-4, rel=1e-4)


def test_a_policy_with_adapters_of_its_own_is_compared_with_them(checkpoint, tmp_path):
    """The reference is the policy as it was given, not its base."""
    model = get_peft_model(AutoModelForImageTextToText.from_pretrained(checkpoint), lora())
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    trainer = SaysSo(model, by_length, arguments(tmp_path, max_steps=3), prompts())
    logs = entries(trainer)
    assert logs[0]["objective/kl"] == 0 and logs[2]["objective/kl"] != 0
    head = trainer.value_model.get_base_model().score
    assert head.modules_to_save.default.weight.any()  # it trained, though PEFT switched to the reference and back


def test_what_ppo_cannot_train_is_refused(checkpoint, adapter, tmp_path):
    with pytest.raises(ValueError, match="PPO trains LoRA adapters"):
        MMPPOTrainer(checkpoint, by_length, arguments(tmp_path), prompts())
    other = tmp_path / "other"
    shutil.copytree(adapter, other)
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "another/base"}))
    with pytest.raises(ValueError, match="has adapters for `another/base`"):
        MMPPOTrainer(checkpoint, str(other), arguments(tmp_path), prompts(), peft_config=lora())
    with pytest.raises(ValueError, match="has adapters for `another/base`"):
        args = arguments(tmp_path, value_adapter=str(other))
        MMPPOTrainer(checkpoint, by_length, args, prompts(), peft_config=lora())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": 1.1}, r"`gamma` must be in \[0, 1\], got 1.1"),
        ({"lam": -0.1}, r"`lam` must be in \[0, 1\]"),
        ({"cliprange_value": 0.0}, "`cliprange_value` must be above 0"),
        ({"vf_coef": -1.0}, "`vf_coef` must be 0 or more"),
        ({"num_generations": 0}, "`num_generations` must be at least 1"),
        ({"num_generations": 3}, "divisible by num_generations"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **settings)


def test_one_answer_to_a_prompt_will_do(tmp_path):
    """TRL refuses it in the last of its checks, when all else is settled."""
    args = arguments(tmp_path, per_device_train_batch_size=3, gradient_accumulation_steps=2)
    assert (args.num_generations, args.steps_per_generation, args.generation_batch_size) == (1, 2, 6)


def test_the_policy_learns_what_is_rewarded_and_the_values_what_to_expect(checkpoint, tmp_path):
    # What a random model can learn: tokens on one side of a plane that its LM head knows
    liked = AutoModelForImageTextToText.from_pretrained(checkpoint).lm_head.weight[:, 0] > 0

    def share(completion_ids, **columns):
        return [liked[ids].float().mean().item() for ids in completion_ids]

    args = arguments(
        tmp_path, per_device_train_batch_size=16, max_completion_length=6, max_steps=24, learning_rate=5e-3, beta=0.01,
        optim="adamw_torch", max_grad_norm=1.0,
    )  # fmt: skip
    trainer = MMPPOTrainer(checkpoint, share, args, prompts(16), peft_config=LoraConfig(r=8, lora_alpha=16))
    logs = [log for log in entries(trainer) if "objective/scores" in log]
    scores, errors = ([log[name] for log in logs] for name in ("objective/scores", "val/error"))
    assert sum(scores[-4:]) / 4 > sum(scores[:4]) / 4 + 0.05
    assert sum(errors[-4:]) / 4 < errors[0] / 4  # values begin at 0


def test_an_evaluation_trains_nothing(checkpoint, tmp_path):
    args = arguments(tmp_path, per_device_eval_batch_size=2)
    trainer = SaysSo(checkpoint, by_length, args, prompts(), eval_dataset=prompts(2), peft_config=lora())
    metrics = trainer.evaluate()
    names = ["loss", "objective/scores", "objective/kl", "val/error", "policy/clipfrac_avg", "rewards/by_length/mean"]
    assert {f"eval_{name}" for name in names} <= set(metrics)
    assert metrics["eval_policy/clipfrac_avg"] == 0 and metrics["eval_val/error"] > 0
    assert all(weight.grad is None for weight in trainer.model.parameters())
