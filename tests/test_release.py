"""What is published names one version everywhere, and its files are right."""

import re
import tomllib
from pathlib import Path

import check_release
import yaml

from spade_cli import __version__

ROOT = Path(__file__).parents[1]


def test_one_version_everywhere(monkeypatch, tmp_path):
    assert check_release.read_version() == __version__ and check_release.check_versions(release=False) == []
    for name in ("CHANGELOG.md", "CITATION.cff", "spade_cli/version.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        text = (ROOT / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace(__version__, "9.9.9", 1) if name == "spade_cli/version.py" else text)
    monkeypatch.setattr(check_release, "ROOT", tmp_path)
    assert len(check_release.check_versions(release=False)) == 2
    (tmp_path / "CHANGELOG.md").write_text("## 9.9.9 (unreleased)\n")
    (tmp_path / "CITATION.cff").write_text("version: 9.9.9\n")
    assert check_release.check_versions(release=False) == []
    no_day = "the changelog's first heading names no day, such as (2026-12-01)"
    assert check_release.check_versions(release=True) == [no_day]
    monkeypatch.setattr(check_release, "tags", lambda pattern: [pattern])
    assert check_release.check_versions(release=True)[0] == "there is a tag v9.9.9 already: raise the version"


def test_citation_and_forge_files_are_what_they_must_be():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version"} <= set(citation)
    assert all({"title", "type", "authors"} <= set(one) for one in citation["references"])
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"):
        read = yaml.safe_load(form.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} == set(read) and all(
            {"type", "attributes"} <= set(one) for one in read["body"]
        )


def test_the_workflow_does_what_ci_does_on_every_python_that_is_promised():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = [name.rpartition(" ")[2] for name in project["classifiers"] if re.search(r"Python :: 3\.\d+$", name)]
    (job,) = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text(encoding="utf-8"))["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == promised and job["steps"][-1]["run"] == ".ci/run"
    (variable,) = job["steps"][-1]["env"]
    assert f"${{{variable}:-}}" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert all(f"python{version}" in (ROOT / "RELEASING.md").read_text(encoding="utf-8") for version in promised)
