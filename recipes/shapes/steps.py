"""Steps that are done once: a step whose command, inputs and outputs are as they were is not run again."""

import hashlib
import json
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Step:
    """
    One command.

    Args:
        name (`str`): what it does, in a few words.
        command (`list[str]`): the command.
        shown (`str`): the command as a user would type it.
        output (`Path`): folder (or file) that it makes.
        inputs (`list[Path]`): files and folders that it reads.
    """

    name: str
    command: list[str]
    shown: str
    output: Path
    inputs: list[Path] = field(default_factory=list)

    @property
    def stamp(self):
        return self.output.with_name(f".{self.output.name}.done.json")

    def key(self):
        """Changes when the command or anything it reads does."""
        return digest([self.shown, *(fingerprint(path) for path in self.inputs)])

    def is_done(self):
        try:
            stamp = json.loads(self.stamp.read_text())
        except (OSError, ValueError):
            return False
        return stamp == {"key": self.key(), "output": fingerprint(self.output)}

    def run(self):
        """Run the command; what a killed run left is removed unless the command goes on with it."""
        self.stamp.unlink(missing_ok=True)
        begun = self.output.with_name(f".{self.output.name}.begun")
        key = self.key()
        if self.output.exists() and (not begun.exists() or begun.read_text() != key):
            shutil.rmtree(self.output) if self.output.is_dir() else self.output.unlink()
        self.output.parent.mkdir(parents=True, exist_ok=True)
        begun.write_text(key)
        subprocess.run(self.command, check=True)
        self.stamp.write_text(json.dumps({"key": key, "output": fingerprint(self.output)}))
        begun.unlink()


def run_steps(steps):
    """Run the steps that are not done, saying which and how long they took; each shows its own time left."""
    start = time.monotonic()
    for number, step in enumerate(steps, 1):
        if step.is_done():
            print(f"[{number}/{len(steps)}] {step.name}: done before", flush=True)
            continue
        print(f"\n[{number}/{len(steps)}] {step.name}\n$ {step.shown}", flush=True)
        begun = time.monotonic()
        step.run()
        took, spent = time.monotonic() - begun, time.monotonic() - start
        print(f"[{number}/{len(steps)}] {step.name}: {took:.0f} s, {spent:.0f} s so far", flush=True)


def fingerprint(path):
    """Digest of a file, or of all files below a folder by name and content."""
    path = Path(path)
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return digest([(str(file.relative_to(path)), hashlib.sha256(file.read_bytes()).hexdigest()) for file in files])


def digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
