"""Headless Chromium for tests: what a page looks like, and what a script beside it sees in it. Not a test itself."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from html import unescape
from pathlib import Path


NAMES = ("chromium", "chromium-browser", "google-chrome")
TIME_LIMIT = 120  # seconds; a start takes a few, many more on a busy machine
FLAGS = [
    "--headless",
    "--no-sandbox",  # root in a container has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--allow-file-access-from-files",  # lets the wrapper look into the page
    "--hide-scrollbars",
    "--virtual-time-budget=20000",  # milliseconds of the page's own clock: waits for promises without sleeping
]
WRAPPER = """<!DOCTYPE html><meta charset="utf-8"><iframe src="%s" width="1200" height="2000"></iframe><script>
addEventListener("load", async () => {
  const page = document.querySelector("iframe").contentWindow;
  const run = async () => { %s };
  const result = await run().then((value) => ({value}), (error) => ({error: String(error)}));
  document.documentElement.dataset.result = JSON.stringify(result);
});
</script>"""


def evaluate(path: Path, body: str) -> object:
    """
    What the JavaScript function `body` returns, as JSON, after the file at `path` has loaded; `page` is its window.
    The file itself is not changed: it is in a frame, with its own Content-Security-Policy.
    """
    with tempfile.TemporaryDirectory() as folder:
        wrapper = Path(folder, "wrapper.html")
        wrapper.write_text(WRAPPER % (Path(path).resolve().as_uri(), body), encoding="utf-8")
        dom = _run("--dump-dom", wrapper.as_uri())
    match = re.search(r'<html data-result="([^"]*)"', dom)
    assert match, f"The script on {path} did not end. What Chromium shows:\n{dom[:2000]}"
    result = json.loads(unescape(match[1]))
    assert "error" not in result, f"The script on {path} failed: {result['error']}"
    return result.get("value")


def screenshot(path: Path, image: Path, *, width: int = 1280, height: int = 1600, dark: bool = False) -> Path:
    """Writes a PNG of what the file at `path` looks like to `image`; sizes in pixels."""
    dark_flags = ["--blink-settings=preferredColorScheme=0"] if dark else []
    _run(f"--screenshot={image}", f"--window-size={width},{height}", *dark_flags, Path(path).resolve().as_uri())
    return image


def _run(*arguments: str) -> str:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    assert program, f"None of {', '.join(NAMES)} is installed: `apt-get install chromium` on Debian."
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=TIME_LIMIT)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"Chromium did not end within {TIME_LIMIT} seconds.") from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # with its child processes
                process.wait()
    assert process.returncode == 0, f"Chromium ended with {process.returncode}:\n{errors[-2000:]}"
    return output
