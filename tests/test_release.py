"""What a release is made with: versions that agree, workflows whose actions are pinned, files that are there."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml


ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / ".github").is_dir(), reason="the workflows are not part of the sdist")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def test_the_citation_is_of_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == project["version"] and citation["license"] == project["license"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_pin_their_actions_and_may_write_only_where_a_job_says_so(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"]["contents"] == "read"
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            assert "uses" in step or "run" in step
            assert "uses" not in step or re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"])
        if any("gh run download" in step.get("run", "") for step in job["steps"]):
            # A job that names permissions has no others
            assert job.get("permissions", workflow["permissions"])["actions"] == "read"


def test_only_a_tag_is_published_after_the_wheel_has_been_tried():
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))["jobs"]
    assert jobs["publish"]["if"] == "github.ref_type == 'tag'"
    assert jobs["publish"]["needs"] == "smoke" and jobs["smoke"]["needs"] == "build"
    assert all("checkout" not in step.get("uses", "") for step in jobs["smoke"]["steps"])
    assert [name for name, job in jobs.items() if job.get("permissions", {}).get("id-token")] == ["publish"]


@pytest.mark.parametrize("path", [form for form in FORMS if form.stem != "config"], ids=lambda path: path.stem)
def test_issue_forms_have_what_github_asks_for(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} == set(form)
    assert all(field["attributes"]["label"] for field in form["body"])


def test_the_container_copies_what_there_is():
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    named = [name for line in re.findall(r"^COPY (.+)", text, re.MULTILINE) for name in line.split()[:-1]]
    kept = re.findall(r"^!(.+)", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(kept) and all((ROOT / name).exists() for name in named)
    (extras,) = re.findall(r'"\.\[(.+)\]"', text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
