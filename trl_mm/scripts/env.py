"""`trl-mm env`: versions, devices and extras, for a bug report. No path and no name of the user is shown."""

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, requires, version


PACKAGES = ("trl-mm", "trl", "transformers", "accelerate", "peft", "datasets", "deepspeed", "torch")


def make_parser():
    return argparse.ArgumentParser(
        prog="trl-mm env",
        usage="trl-mm env",
        description="Print versions, devices and installed extras, as a bug report needs them.",
    )


def main(argv=None):
    make_parser().parse_args(argv)
    for name, value in environment().items():
        print(f"- {name}: {value}")


def environment():
    """What a bug report needs (`dict[str, str]`), by name."""
    return {
        "platform": platform.platform(),
        "Python": platform.python_version(),
        **{name: installed_version(name) or "not installed" for name in PACKAGES},
        "extras": ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in installed_extras().items())
        or "unknown",
        "CPU cores": str(os.cpu_count()),
        "devices": devices(),
    }


def installed_version(package):
    """Version (`str`) of a package, `None` if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def installed_extras(package="trl-mm"):
    """
    Whether everything that an extra asks for is there, in these versions (`dict[str, bool]`), by its name; nothing
    of a package that is not installed, as in a checkout on PYTHONPATH.
    """
    from packaging.requirements import Requirement

    if installed_version(package) is None:
        return {}
    lines = [Requirement(line) for line in requires(package) or ()]
    names = {
        name: [line for line in lines if line.marker is not None and line.marker.evaluate({"extra": name})]
        for name in extras_of(package)
    }

    def complete(name):
        return all(
            all(map(complete, line.extras)) if line.name == package else satisfied(line)
            for line in names[name]
            if not line.marker.evaluate({"extra": ""})
        )

    return {name: complete(name) for name in names}


def extras_of(package):
    """Names (`list[str]`) of the extras of a package, without those for working on it."""
    from importlib.metadata import metadata

    return sorted(set(metadata(package).get_all("Provides-Extra") or ()) - {"dev", "docs", "test"})


def satisfied(requirement):
    """Whether a package is installed in a version that a [`~packaging.requirements.Requirement`] allows."""
    found = installed_version(requirement.name)
    return found is not None and requirement.specifier.contains(found, prereleases=True)


def devices():
    """GPUs or other accelerators that torch sees, with what it was built for (`str`)."""
    try:
        import torch
    except ImportError:
        return "unknown, torch is not installed"
    if not torch.accelerator.is_available():
        return f"CPU only ({torch.get_num_threads()} threads)"
    kind = torch.accelerator.current_accelerator().type
    count = torch.accelerator.device_count()
    if kind != "cuda":
        return f"{count} of {kind}"
    shown = [torch.cuda.get_device_properties(index) for index in range(count)]
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
    return f"{', '.join(f'{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)' for gpu in shown)}; {built}"


if __name__ == "__main__":
    main()
