import abc
import importlib
import json
import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import pytest
import torch
from PIL import Image
from support.tiny import tiny_model, tiny_processor

from trl_mm.data.images import open_image
from trl_mm.generation import Completer, Request, SamplingSettings


OPTIONS = {"max_new_tokens": 6, "temperature": 0, "do_sample": False, "num_beams": 1, "until": ["\n\n"]}
DOCS = [
    {"image": Image.new("RGB", (30 + 10 * number, 40), color), "question": f"Describe {color}."}
    for number, color in enumerate(("red", "green", "blue"))
]


class FakeLmms(abc.ABC):
    """What the adapter sees of `lmms_eval.api.model.lmms` 0.7.3."""

    is_simple = True

    def __init__(self):
        self._rank, self._world_size, self.task_dict = 0, 1, {}
        self.cache_hook = SimpleNamespace(add_partial=lambda attr, req, res: None)

    @abc.abstractmethod
    def loglikelihood(self, requests): ...

    @abc.abstractmethod
    def generate_until(self, requests): ...

    @abc.abstractmethod
    def generate_until_multi_round(self, requests): ...

    @property
    def rank(self):
        return self._rank

    @property
    def world_size(self):
        return self._world_size

    def clean(self):
        for name in [name for name, value in vars(self).items() if isinstance(value, torch.nn.Module)]:
            delattr(self, name)


@pytest.fixture
def adapter(monkeypatch):
    """The module, with lmms-eval as far as it needs it."""
    for name in ("lmms_eval", "lmms_eval.api", "lmms_eval.api.model"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["lmms_eval.api.model"].lmms = FakeLmms
    monkeypatch.delitem(sys.modules, "trl_mm.eval.lmms_eval", raising=False)
    yield importlib.import_module("trl_mm.eval.lmms_eval")
    sys.modules.pop("trl_mm.eval.lmms_eval", None)


@pytest.fixture
def model(adapter):
    model = adapter.LoadedModel(tiny_model(scale=3.0), tiny_processor(), batch_size=2)
    model.task_dict["colours"] = {"test": DOCS}
    return model


def instance(number, context=None, options=OPTIONS, visual=lambda doc: [doc["image"]]):
    context = DOCS[number]["question"] if context is None else context
    return SimpleNamespace(args=(context, options, visual, number, "colours", "test"))


def expected(number, prompt, most=6, images=None):
    completer = Completer(tiny_processor(), SamplingSettings(most, temperature=0.0))
    images = [open_image(DOCS[number]["image"])] if images is None else images
    row = {"images": images, "prompt": [{"role": "user", "content": prompt}]}
    return completer.complete(tiny_model(scale=3.0), [Request(completer.prompts([row])[0])])[0].strip()


def test_answers_come_in_the_order_of_the_requests(model):
    longer = {**OPTIONS, "max_new_tokens": 9}
    requests = [instance(2), instance(0, options=longer), instance(1), instance(0)]
    answers = model.generate_until(requests)
    assert answers == [
        expected(2, "Describe blue."),
        expected(0, "Describe red.", most=9),
        expected(1, "Describe green."),
        expected(0, "Describe red."),
    ]
    assert len(set(answers)) > 1
    assert requests[0].args[1] == OPTIONS  # lmms-eval shares them between documents


def test_a_context_may_say_where_its_images_are(model):
    parts = [{"type": "text", "text": "Is it"}, {"type": "image"}, {"type": "text", "text": " or not?"}]
    assert model.generate_until([instance(0, "Is it<image> or not?")]) == [expected(0, parts)]
    bare = [{"type": "image"}, {"type": "text", "text": "Which?"}]
    assert model.generate_until([instance(1, "<image>\nWhich?")]) == [expected(1, bare)]
    with pytest.raises(ValueError, match=r"Document 0 of the task colours has 1 images and 2 `<image>`"):
        model.generate_until([instance(0, "<image><image>")])


def test_documents_without_images_are_asked_too(model):
    assert model.generate_until([instance(0, visual=lambda doc: [])]) == [expected(0, "Describe red.", images=[])]


def test_a_stop_string_ends_an_answer(model, adapter):
    whole = model.generate_until([instance(0)])[0]
    stop = whole[len(whole) // 2]
    assert model.generate_until([instance(0, options={**OPTIONS, "until": stop})]) == [
        whole.partition(stop)[0].strip()
    ]
    assert adapter.first_stop("one two", ["two", "o"]) == 0
    assert adapter.first_stop("one two", []) is None


def test_repeats_of_a_sampled_document_differ(model):
    options = {"max_new_tokens": 12, "temperature": 1.5}
    first = model.generate_until([instance(0, options=options)] * 3)
    assert len(set(first)) > 1
    assert model.generate_until([instance(0, options=options)] * 3) == first


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (instance(0, options={"num_beams": 3}), 'Pass gen_kwargs="num_beams=1"'),
        (
            instance(0, visual=lambda doc: ["clip.mp4"]),
            "Document 0 of the task colours shows clip.mp4, which is no image",
        ),
    ],
)
def test_what_is_not_supported_is_refused(model, request_, said):
    with pytest.raises(ValueError, match=said):
        model.generate_until([request_])


def test_other_kinds_of_tasks_are_refused(model):
    with pytest.raises(NotImplementedError, match="choose those that generate text"):
        model.loglikelihood([])
    with pytest.raises(NotImplementedError, match="several rounds"):
        model.generate_until_multi_round([])


def test_the_model_stays_with_its_caller(model):
    model.clean()
    assert model.generate_until([instance(0)])
    assert model.config is model.model.config


def test_a_batch_size_is_positive(adapter):
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
        adapter.LoadedModel(None, None, batch_size=0)


@pytest.mark.skipif(find_spec("lmms_eval") is not None, reason="lmms-eval is installed")
def test_a_missing_package_is_named():
    with pytest.raises(ImportError, match=r"install it with `pip install trl-mm\[lmms-eval\]`"):
        importlib.import_module("trl_mm.eval.lmms_eval")


TASK = """\
task: colours
dataset_path: json
dataset_kwargs:
  data_files: {data}
test_split: train
output_type: generate_until
doc_to_visual: !function colours.visual
doc_to_text: !function colours.text
doc_to_target: answer
process_results: !function colours.results
generation_kwargs:
  max_new_tokens: 6
  temperature: 0
  do_sample: false
metric_list:
  - metric: same
    aggregation: mean
    higher_is_better: true
"""
FUNCTIONS = """\
from PIL import Image


def visual(doc):
    return [Image.new("RGB", (doc["width"], 40), doc["colour"])]


def text(doc, kwargs=None):
    return f"Describe {doc['colour']}."


def results(doc, answers):
    return {"same": float(answers[0] == doc["answer"])}
"""


@pytest.mark.skipif(find_spec("lmms_eval") is None, reason="lmms-eval is not installed: an extra, with many packages")
def test_a_task_runs_on_a_model_with_its_adapter(tmp_path):
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager
    from peft import LoraConfig, get_peft_model

    from trl_mm.eval.lmms_eval import LoadedModel

    torch.manual_seed(0)
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = get_peft_model(tiny_model(scale=3.0), lora)
    completer = Completer(tiny_processor(), SamplingSettings(6, temperature=0.0))
    prompts = [[{"role": "user", "content": doc["question"]}] for doc in DOCS]
    rows = [{"images": [doc["image"]], "prompt": prompt} for doc, prompt in zip(DOCS, prompts, strict=True)]
    answers = completer.complete(model, [Request(prompt) for prompt in completer.prompts(rows)])
    with model.disable_adapter():
        assert completer.complete(model, [Request(prompt) for prompt in completer.prompts(rows)]) != answers
    docs = [
        {"width": doc["image"].width, "colour": doc["question"][9:-1], "answer": answer.strip()}
        for doc, answer in zip(DOCS, answers, strict=True)
    ]
    data, folder = tmp_path / "data.jsonl", tmp_path / "tasks"
    folder.mkdir()
    data.write_text("\n".join(map(json.dumps, docs)))
    (folder / "colours.yaml").write_text(TASK.format(data=data))
    (folder / "colours.py").write_text(FUNCTIONS)
    results = simple_evaluate(
        model=LoadedModel(model, tiny_processor()),
        tasks=["colours"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
    )
    assert results["results"]["colours"]["same,none"] == 1.0
