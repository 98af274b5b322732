"""What the documents tell people to type is read by the real parsers, and the code they show calls what there is."""

import ast
import inspect
import pkgutil
import re
import shlex
import shutil
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import trl_mm
from trl_mm.cli import launch
from trl_mm.cli import main as cli
from trl_mm.data.converters import CONVERTERS
from trl_mm.eval.benchmarks import BENCHMARKS
from trl_mm.eval.paper_rows import PAPER_ROWS


ROOT = Path(__file__).parents[1]
PLACES = ("README.md", ".github/CONTRIBUTING.md", "docs/**/*.md", "recipes/**/*.md", "trl_mm/bench/RESULTS.md")
DOCS = sorted(path for place in PLACES for path in ROOT.glob(place))
pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the docs are not part of the sdist")

# Of the launcher, of accelerate, and of every command
OTHER_FLAGS = {"--config", "--config_file", "--help", "--version"}


def blocks(path, *languages):
    """Fenced blocks of a document."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for language, text in fenced if language in languages]


def spans(path):
    """Code inside sentences, in one line each."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]


def typed_commands(text):
    """Each `trl-mm` line of a block as words, with its variables put in."""
    variables, found = {}, []
    for line in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"\$(\w+)", lambda name: variables.get(name[1], name[0]), line)
        words = shlex.split(line, comments=True)
        if len(words) == 1 and (assigned := re.fullmatch(r"(\w+)=(.*)", words[0], re.DOTALL)):
            variables[assigned[1]] = assigned[2]
        elif words[:1] == ["trl-mm"]:
            found.append(words[1:])
    return found


COMMANDS = [
    pytest.param(words, id=f"{path.name}-{shlex.join(words[:3])}")
    for path in DOCS
    for words in typed_commands("\n".join(blocks(path, "bash", "sh")))
]
# Files that lines of the documents make of recipes
COPIES = {
    words[3]: words[1] for param in COMMANDS for words in param.values if words[0] == "recipes" and "--to" in words
}


@pytest.fixture
def read_only(monkeypatch, tmp_path):
    """The command line up to where a script has read its arguments, in a folder with recipes and their copies."""
    read, find_script = [], launch.find_script

    def script_that_stops(name):
        script = find_script(name)

        def main(arguments, **options):
            parser = script.make_parser()
            # A machine without GPU refuses bfloat16, which is no mistake of a document
            on_cpu = ["--use_cpu", "true"] if "--use_cpu" in parser._option_string_actions else []
            if "--list" in arguments or not hasattr(parser, "parse_args_and_config"):  # `recipes` and `env`
                read.append(parser.parse_args(arguments))
            else:
                read.append(parser.parse_args_and_config([*arguments, *on_cpu], fail_with_unknown_args=True))

        return SimpleNamespace(make_parser=script.make_parser, main=main)

    def launched(module, arguments, *options):
        script_that_stops(module).main(arguments)

    monkeypatch.setattr(launch, "find_script", script_that_stops)
    monkeypatch.setattr(launch, "launch", launched)
    monkeypatch.setattr(launch, "need_package", lambda *names: None)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    for name, recipe in COPIES.items():
        shutil.copy(ROOT / "recipes" / f"{recipe}.yaml", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return read


@pytest.mark.parametrize("words", COMMANDS)
def test_command_lines_are_read_by_their_parsers(words, read_only, capsys):
    assert cli.main(words) == 0, capsys.readouterr().err
    assert len(read_only) == 1


def test_command_lines_are_found_in_the_documents():
    assert {param.values[0][0] for param in COMMANDS} >= {"bdhs", "dpo", "eval", "judge"}


def test_a_wrong_line_is_noticed(read_only):
    """With its variables and its continuation."""
    (words,) = typed_commands('F="a b"\ntrl-mm merge $F \\\n  --output_dr out  # a comment\n')
    assert words == ["merge", "a", "b", "--output_dr", "out"]
    with pytest.raises(SystemExit):
        cli.main(words)


@cache
def known_flags(*names):
    """Flags of commands, those of the benchmarks of `score` included."""
    scripts = {f"{cli.COMMANDS[name][0]}" for name in names}
    if "score" in names:
        scripts |= {f"{cli.COMMANDS['score'][0]}:{name}" for name in BENCHMARKS}
    parsers = [launch.find_script(script).make_parser() for script in scripts]
    flags = {flag for parser in parsers for flag in parser._option_string_actions}
    return flags | {f"--{name}" for name in launch.LAUNCH_FLAGS} | OTHER_FLAGS


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_flags_that_sentences_name_are_there(path):
    for code in spans(path):
        words = code.split()
        names = tuple(cli.COMMANDS)
        if words[0] == "trl-mm" and words[1:2] not in ([], ["COMMAND"]) and not words[1].startswith("-"):
            names = tuple(name for name in cli.COMMANDS if name in (words[1], " ".join(words[1:3])))
            assert names, code
        if words[0] in cli.COMMANDS:  # "`bdhs --streaming`"
            names = (words[0],)
        if words[0] == "trl-mm" or words[0].startswith("--") or names != tuple(cli.COMMANDS):
            assert set(re.findall(r"--\w+", code)) <= known_flags(*names), code


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_imports_and_calls_what_there_is(path):
    for text in blocks(path, "python"):
        tree, imported = ast.parse(text), {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "trl_mm":
                try:
                    module = import_module(node.module)
                except ImportError as error:
                    if node.module != "trl_mm.eval.lmms_eval":
                        raise
                    assert "pip install trl-mm[lmms-eval]" in str(error)
                else:
                    imported |= {name.asname or name.name: getattr(module, name.name) for name in node.names}
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            taken = imported.get(getattr(call.func, "id", None))
            parameters = {} if taken is None else inspect.signature(taken).parameters
            if taken is not None and not any(item.kind is item.VAR_KEYWORD for item in parameters.values()):
                assert {item.arg for item in call.keywords} - {None} <= set(parameters), ast.unparse(call)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(path):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_the_table_of_datasets_names_every_converter():
    table = (ROOT / "docs/data.md").read_text(encoding="utf-8").split("| dataset |")[1].split("\n\n")[0]
    cells = [line.split("|")[3] for line in table.splitlines()[2:]]
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == set(CONVERTERS)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_converters_that_documents_name_are_there(path):
    named = re.findall(r"--converter (\w+)", path.read_text(encoding="utf-8"))
    assert set(named) <= {*CONVERTERS, "auto", "NAME"}


def said_in_the_code():
    """Texts of the package, with `…` for what is put into them, and without backticks."""

    def text(node):
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else ""
        return "".join(text(part) if isinstance(part, ast.Constant) else "…" for part in node.values)

    found = []
    for path in (ROOT / "trl_mm").rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        found += [text(node) for node in nodes if isinstance(node, ast.Constant | ast.JoinedStr)]
    return [re.sub(r"%(\d*d|s|r|\.\df)", "…", line).replace("`", "") for line in found]


def test_messages_of_the_troubleshooting_page_are_those_of_the_code():
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.*?`)(?: \(torch\))? \| ", page, re.MULTILINE)
    messages = [message for cell in cells for message in re.findall("`([^`]+)`", cell)]
    said = said_in_the_code()
    assert len(messages) > 40
    for message in set(messages) - {"CUDA out of memory"}:
        parts = [re.escape(part.strip()) for part in message.split("…") if len(part.strip()) > 1]
        assert any(re.search(".*".join(parts), line, re.DOTALL) for line in said), message


def test_the_paper_page_has_the_rows_and_their_recipes():
    page = (ROOT / "docs/paper.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([^|]+) \| (\d\d\.\d\d \|.*) \|$", page, re.MULTILINE))
    assert list(rows) == list(PAPER_ROWS)
    for name, cells in rows.items():
        *values, recipes = cells.split(" | ")
        assert [float(value) for value in values] == list(PAPER_ROWS[name]), name
        for recipe in re.findall(r"`(\w+)`", recipes):
            assert (ROOT / f"recipes/llava_v1.6_vicuna_7b/{recipe}.yaml").is_file(), recipe
            assert re.search(rf"--config (\$R|llava_v1.6_vicuna_7b)/{recipe}\b", page), recipe
    aimed = {
        row
        for path in (ROOT / "recipes/llava_v1.6_vicuna_7b").glob("*.yaml")
        for row in re.findall('^# Paper: row "(.+?)"', path.read_text(encoding="utf-8"))
    }
    assert aimed <= {re.sub("^DPO, POVID 5k (?=\\+)", "", name) for name in rows}


def pages_in(nav):
    """Pages of MkDocs' navigation."""
    if isinstance(nav, str):
        return [nav]
    return [page for entry in nav for page in pages_in(entry.values() if isinstance(entry, dict) else entry)]


def test_the_navigation_has_every_page_once():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    made = ast.literal_eval(re.search(r"^PAGES = (\{.*?^\})", (ROOT / "docs/hooks.py").read_text(), re.M | re.S)[1])
    assert all((ROOT / file).is_file() for file in made.values())
    written = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(pages_in(site["nav"])) == sorted([*written, *made])


def test_the_api_page_has_every_public_name_and_others_that_are_there():
    named = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs/api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {name.removeprefix("trl_mm.") for name in named} >= set(trl_mm.__all__)
    for name in named:
        assert pkgutil.resolve_name(name), name


def test_the_examples_page_has_every_example():
    linked = re.findall(r"\(\.\./examples/([\w.]+)\)", (ROOT / "docs/examples.md").read_text(encoding="utf-8"))
    assert sorted(linked) == sorted(path.name for path in (ROOT / "examples").iterdir() if path.is_file())
