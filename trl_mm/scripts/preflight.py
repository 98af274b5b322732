"""What a command will miss, found before anything is loaded: packages, folders that it can write to, a login."""

import os
import re
import tempfile
from importlib.util import find_spec
from pathlib import Path


def need_package(package, setting):
    """
    Raise an `ImportError` with the cure if a package is not installed.

    Args:
        package (`str`): name that it is imported by.
        setting (`str`): what needs it, as the user writes it.
    """
    if find_spec(package) is None:
        install = INSTALL.get(package, package.replace("_", "-"))
        raise ImportError(f"{setting} needs {package}, which is not installed: `pip install {install}`.")


def check_attention(implementation):
    """Raise an `ImportError` if the package of an attention implementation (`str`, *optional*) is missing."""
    package = ATTENTION.get(implementation)
    # transformers takes a kernel from the Hub in place of one that is not installed
    if package is not None and find_spec("kernels") is None:
        need_package(package, f"`attn_implementation: {implementation}`")


def check_writable(setting, folder):
    """
    Raise an `OSError` if a folder, or what is there of the way to it, cannot be written to. It is not made.

    Args:
        setting (`str`): setting that names the folder.
        folder (`str`, *optional*): the folder; nothing is looked at without one.
    """
    if folder is None:
        return
    there = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OSError(
            f"`{setting}` ({folder}) cannot be written to: {error.strerror or error} ({there}). Name another folder."
        ) from error


def check_training(training_args, model_args):
    """
    Check what settings of a training need. One process of each machine looks, for all.

    Args:
        training_args ([`~transformers.TrainingArguments`]): settings of the trainer.
        model_args ([`~trl.ModelConfig`]): settings of the model.

    Raises:
        ImportError: a package is missing.
        OSError: a folder cannot be written to, the Hub cannot be pushed to, or a tracker needs a login.
        ValueError: `report_to` names something unknown, or `attn_implementation` is none to train with.
    """
    from ..trainer.kernels import refuse_flex_attention

    if os.environ.get("LOCAL_RANK", "0") not in ("0", "-1"):
        return
    for name in ("load_in_4bit", "load_in_8bit"):
        if getattr(model_args, name):
            need_package("bitsandbytes", f"`{name}`")
    optimizer = getattr(training_args.optim, "value", training_args.optim)
    if OF_BITSANDBYTES.match(optimizer):
        need_package("bitsandbytes", f"`optim: {optimizer}`")
    check_attention(model_args.attn_implementation)
    refuse_flex_attention(model_args.attn_implementation)
    if training_args.use_liger_kernel:
        need_package("liger_kernel", "`use_liger_kernel`")
    if getattr(training_args, "use_vllm", False):
        need_package("vllm", "`use_vllm`")
    check_trackers(training_args.report_to)
    check_writable("output_dir", training_args.output_dir)
    if getattr(training_args, "precompute_ref_log_probs", False):
        check_writable("ref_log_probs_dir", training_args.ref_log_probs_dir)
    if training_args.push_to_hub:
        check_login(training_args.hub_token)


def check_trackers(names):
    """Raise an error if a tracker of `report_to` (`list[str]`) is unknown, or its package or its login is missing."""
    from transformers.integrations.integration_utils import (
        INTEGRATION_TO_CALLBACK,
        get_available_reporting_integrations,
    )

    from .recipes import unknown

    available = get_available_reporting_integrations()
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise ValueError(f"`report_to`: {unknown('tracker', name, INTEGRATION_TO_CALLBACK)}")
        if name not in available and name in TRACKERS:
            need_package(name, f"`report_to: {name}`")
        if name in LOGINS and os.environ.get("RANK", "0") == "0":  # the process that reports
            LOGINS[name]()


def check_wandb():
    """Raise a `PermissionError` with the cure if Weights & Biases would ask for a login or refuses it."""
    import wandb

    if wandb.setup().settings.mode in (
        "offline",
        "disabled",
        "dryrun",
    ):  # also where WANDB_MODE or `wandb offline` say it
        return
    reason = "there is none"
    try:
        try:
            found = wandb.login(prompt=False)
        except TypeError:  # an older wandb, which would ask
            found = wandb.api.api_key
    except wandb.Error as error:
        found, reason = False, " ".join(str(error).split()).rstrip(".")
    if not found:
        raise PermissionError(
            f"`report_to: wandb` needs a login: {reason}. Run `wandb login`, set WANDB_API_KEY, or set "
            "WANDB_MODE=offline to keep the run on this disk."
        )


def check_comet():
    """Raise a `PermissionError` with the cure if there is no key for Comet."""
    import comet_ml

    if comet_ml.config.get_config("comet.api_key") is None and os.environ.get("COMET_START_ONLINE", "1") != "0":
        raise PermissionError(
            "`report_to: comet_ml` needs an API key and there is none. Run `comet login`, set COMET_API_KEY, or set "
            "COMET_START_ONLINE=0 to keep the run on this disk."
        )


def check_login(token):
    """Raise an `OSError` with the cure if the Hub does not let this user write, with `token` or that of the login."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    cure = "Run `hf auth login`, or set HF_TOKEN to a token that may write"
    try:
        user = HfApi(token=token, library_name="trl-mm").whoami()
    except LocalTokenNotFoundError as error:
        raise PermissionError(f"`push_to_hub` needs an access token of the Hub and there is none. {cure}.") from error
    except OfflineModeIsEnabled as error:
        raise ConnectionError("`push_to_hub` needs the Hub, and HF_HUB_OFFLINE forbids it. Unset one.") from error
    except (HTTPError, ConnectionError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise PermissionError(f"`push_to_hub`: the Hub is out of reach or refuses: {reason}. {cure}.") from error
    if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise PermissionError(f"`push_to_hub`: the access token may only read. {cure}.")


# What `pip install` calls packages, where it is not their name
INSTALL = {
    "bitsandbytes": "trl-mm[quantization]",
    "deepspeed": "trl-mm[deepspeed]",
    "matplotlib": "trl-mm[eval]",
    "flash_attn": "flash-attn --no-build-isolation",
}
OF_BITSANDBYTES = re.compile(r"adamw_(bnb_)?8bit|paged_|ademamix|lion|rmsprop_")
ATTENTION = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
# Trackers whose package is called as they are
TRACKERS = ("wandb", "tensorboard", "trackio", "mlflow", "comet_ml", "swanlab", "clearml", "codecarbon", "dvclive")
# Those that would ask for a login when training begins, hours after the command
LOGINS = {"wandb": check_wandb, "comet_ml": check_comet}
