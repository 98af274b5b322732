"""Hooks of MkDocs: pages made of files outside of `docs`, links between them, and docstrings as TRL writes them."""

import os
import re

from mkdocs.structure.files import File


# Page: its file. They stay where people look for them on GitHub
PAGES = {
    "shapes.md": "recipes/shapes/README.md",
    "results.md": "trl_mm/bench/RESULTS.md",
    "contributing.md": ".github/CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config):
    """Links into the repository need its address, which a fork has another of."""
    config.repo_url = os.environ.get("REPO_URL") or None
    return config


def on_files(files, config):
    root = os.path.dirname(config.config_file_path)
    for page, file in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=os.path.join(root, file)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links as they are right on GitHub become links between pages."""
    here = page.file.src_uri
    folder = os.path.dirname(PAGES.get(here, f"docs/{here}"))
    pages = {file: name for name, file in PAGES.items()}

    def link(found):
        text, target, anchor = found[1], found[2], found[3] or ""
        file = os.path.normpath(os.path.join(folder, target))
        if file in pages or file.startswith("docs/"):
            return f"[{text}]({os.path.relpath(pages.get(file, file[5:]), os.path.dirname(here) or '.')}{anchor})"
        return f"[{text}]({config.repo_url}/blob/main/{file}{anchor})" if config.repo_url else text

    return LINK.sub(link, markdown)


def on_page_content(html, page, config, files):
    """Docstrings as Hugging Face writes them: [`~trl.DPOConfig`], and types in backticks with their default."""
    html = re.sub(r"\[<code>~?([\w.]+)</code>\](?!\()", r"<code>\1</code>", html)

    # The documented default, where the one in the code may be a call that makes a field
    html = re.sub(r"</code>, default:\s*<code>.*?</code>\s*\)", "</code>)", html, flags=re.DOTALL)

    def plain(found):
        return f"<code>{re.sub(r'[`~*]|[[](?=`)|(?<=`)[]]', '', found[1])}</code>"

    return re.sub(r"<code>([^<]*`[^<]*)</code>", plain, html)
