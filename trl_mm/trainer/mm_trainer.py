"""What all our trainers do alike: start, build an optimizer, save, and resume from what was saved."""

import logging
from collections.abc import Mapping
from functools import partial

from transformers.trainer_utils import TrainOutput

from ..generation.sight import check_sees_images
from .checkpoints import checkpoint_to_resume, loads_saved_weights, save_checkpoint
from .finite import check_evaluation, check_gradients, check_loss, check_weights, unfiltered
from .fsdp import prepare_for_fsdp, prepare_plugin
from .kernels import compile_no_whole_model, prepare_kernels, refuse_flex_attention
from .loading_ahead import LoadsAhead
from .model_card import write_model_card
from .parts.data_types import in_saved_types
from .parts.parameter_groups import split_projector, trained_parts_table
from .parts.prepare import prepare_parts
from .prefix_sharing.enable import bare_models


logger = logging.getLogger(__name__)


class MMTrainer(LoadsAhead):
    """To be inherited beside a trainer of TRL."""

    last_checkpoint = None  # folder of the last one that this run has saved or comes from
    recipe = None  # settings of a command besides `args`, for the card
    saved_types = {}  # of weights that are loaded and saved in half precision and trained in float32
    precomputes_reference = False  # see reference/precompute.py
    _saves_checkpoint = False

    def create_accelerator_and_postprocess(self):
        super().create_accelerator_and_postprocess()
        if self.is_fsdp_enabled:
            prepare_plugin(self.accelerator.state.fsdp_plugin)
        if self.args.torch_compile:
            compile_no_whole_model(self.accelerator)

    def _validate_args(self):
        super()._validate_args()
        check_one_gpu(self.args)  # by now it is 1 for a model that `device_map` has spread

    def prepare_parts(self) -> None:
        """Settle which parts of the model train, and in which data type; called once TRL's trainer is built."""
        accelerator = self.accelerator
        keeps_float32 = self.is_fsdp_enabled or self.is_deepspeed_enabled
        self.saved_types = prepare_parts(
            self.model,
            self.processing_class,
            self.args,
            None if keeps_float32 else accelerator.mixed_precision,
            self.ref_model,
            accelerator.is_main_process,
        )
        prepare_kernels(bare_models(self), self.args, keeps_float32)
        if self.is_fsdp_enabled:
            prepare_for_fsdp(self)
        logger.info(trained_parts_table(self.model, self.args))

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        resume_from_checkpoint = checkpoint_to_resume(self, resume_from_checkpoint)
        with unfiltered(self.args):  # the filter also asks the device for each batch
            result = super().train(resume_from_checkpoint, *args, **kwargs)
        check_weights(self)
        return result

    def _run_epoch(self, *args, **kwargs):
        # transformers would train one more step before it sees that the run had finished
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return None
        return super()._run_epoch(*args, **kwargs)

    def _finalize_training(self, trial, num_train_samples, start_time):
        if self._initial_global_step < self.state.max_steps:
            return super()._finalize_training(trial, num_train_samples, start_time)
        logger.warning(
            "Nothing is left to do: %s has all %d steps. Raise `max_steps` or `num_train_epochs` to go on, or use "
            "another `output_dir` to train anew.",
            self.last_checkpoint,
            self.state.max_steps,
        )
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
            self._load_best_model()
        self.control = self.callback_handler.on_train_end(self.args, self.state, self.control)
        self.is_in_train = False
        losses = [entry["loss"] for entry in self.state.log_history if "loss" in entry]
        return TrainOutput(self.state.global_step, losses[-1] if losses else float("nan"), {})

    def _get_grad_norm(self, model, grad_norm=None):
        norm = super()._get_grad_norm(model, grad_norm)
        check_gradients(self, norm)
        return norm

    def create_optimizer(self, model=None):
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if is_new:
            split_projector(optimizer, self.model if model is None else model, self.args)
        return optimizer

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        # With `precompute_ref_log_probs` TRL has a new dataset prepared; those of a `dict` come one by one
        given = eval_dataset is not None and not isinstance(eval_dataset, str | Mapping)
        if given and not self.precomputes_reference:
            name = metric_key_prefix if metric_key_prefix.startswith("eval") else f"eval_{metric_key_prefix}"
            eval_dataset = self._checked(eval_dataset, self.processing_class, self.args, name)
        return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def predict(self, test_dataset, ignore_keys=None, metric_key_prefix="test"):
        """
        As in [`~transformers.Trainer`], of rows that are checked as those of `evaluate` are. The metrics are those of
        an evaluation, `test_rewards/margins` and so on; logits are among the predictions only with `compute_metrics`.

        Raises:
            ValueError: a row is bad, or reference log-probabilities were precomputed, which these rows have not.
        """
        if self.precomputes_reference:
            raise ValueError(
                "`predict` does not go with `precompute_ref_log_probs=True`. Call "
                f"`evaluate(dataset, metric_key_prefix={metric_key_prefix!r})`, which computes them."
            )
        test_dataset = self._checked(test_dataset, self.processing_class, self.args, metric_key_prefix)
        output = super().predict(test_dataset, ignore_keys, metric_key_prefix)
        # Nothing logs them, so the next evaluation would take them for its own
        metrics = self._metrics["eval"]
        output.metrics.update({f"{metric_key_prefix}_{name}": sum(v) / len(v) for name, v in metrics.items()})
        metrics.clear()
        return output

    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ):
        with unfiltered(self.args):
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
        check_evaluation(self, output.metrics, f"{metric_key_prefix}_loss")
        return output

    def log(self, logs, start_time=None):
        check_loss(self, logs)
        super().log(logs, start_time)

    def create_model_card(self, model_name=None, dataset_name=None, tags=None):
        write_model_card(self, model_name, dataset_name, tags)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        model = self.model if model is None else model
        if loads_saved_weights(self, resume_from_checkpoint, model):
            return
        dtypes = {name: weight.dtype for name, weight in model.named_parameters()}
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        for name, weight in model.named_parameters():
            if weight.dtype != dtypes[name]:  # adapters, which PEFT loads as float32 and TRL has in bfloat16 for QLoRA
                weight.data = weight.data.to(dtypes[name])

    def _load_best_model(self):
        if not loads_saved_weights(self, self.state.best_model_checkpoint, self.model):
            super()._load_best_model()

    def _save_checkpoint(self, model, trial):
        check_weights(self)
        self._saves_checkpoint = True
        try:
            save_checkpoint(self, partial(super()._save_checkpoint, model, trial), trial)
        finally:
            self._saves_checkpoint = False

    def _save(self, output_dir=None, state_dict=None):
        # A checkpoint to resume from needs all bits; a model to use is as large as the one that was loaded
        with in_saved_types(self.model, {} if self._saves_checkpoint else self.saved_types):
            super()._save(output_dir, state_dict)


def check_one_gpu(args):
    """Refuse `torch.nn.DataParallel`, which transformers takes where one process sees several GPUs."""
    if args.n_gpu > 1:
        raise ValueError(
            f"One process sees {args.n_gpu} GPUs, which transformers would use through `torch.nn.DataParallel`; its "
            "copies of the model cannot be trained here. Start one process for each GPU (`--accelerate_config ddp` on "
            "the command line, `accelerate launch` for a script), or show one GPU only (`CUDA_VISIBLE_DEVICES=0`)."
        )


def check_given_models(**models):
    """Refuse model objects that do not look at images, or attend too slowly; ids and `None` are left to be loaded."""
    for name, model in models.items():
        if model is not None and not isinstance(model, str):
            check_sees_images(model, name)
            refuse_flex_attention(model.config.get_text_config()._attn_implementation)
