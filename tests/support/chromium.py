"""Headless Chromium for tests: what a page looks like, and what a script sees in it. Not a test itself."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright


NAMES = ("chromium", "chromium-browser", "google-chrome")
TIME_LIMIT = 120_000  # milliseconds; a start takes a second or two, many more on a busy machine
FLAGS = ["--disable-gpu", "--disable-quic", "--host-resolver-rules=MAP * ~NOTFOUND"]


def evaluate(path: Path, body: str, *, width: int = 1200, height: int = 2000) -> object:
    """What the JavaScript function `body` returns, as JSON, in the file at `path` after it has loaded; may `await`."""
    with _opened(path, width, height) as page:
        return page.evaluate(f"async () => {{ {body} }}")


def screenshot(path: Path, image: Path, *, width: int = 1280, height: int = 1600, dark: bool = False) -> Path:
    """Writes a PNG of what the file at `path` looks like to `image`; sizes in pixels."""
    with _opened(path, width, height, color_scheme="dark" if dark else "light") as page:
        page.screenshot(path=image)
    return image


@contextmanager
def _opened(path: Path, width: int, height: int, **options) -> Iterator[Page]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    assert program, f"None of {', '.join(NAMES)} is installed: `apt-get install chromium` on Debian."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS, timeout=TIME_LIMIT)
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        page.set_default_timeout(TIME_LIMIT)
        page.goto(Path(path).resolve().as_uri())
        yield page
        browser.close()
