"""What contributors read and hosts run agrees with the project."""

import re
from pathlib import Path
from typing import Any

import yaml

import splitlearn

ROOT = Path(__file__).parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text()


def content(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def test_the_citation_is_of_this_version_and_names_the_five_papers() -> None:
    cited = content("CITATION.cff")
    assert cited["version"] == splitlearn.__version__
    assert f"## [{cited['version']}] - {cited['date-released']}" in (ROOT / "CHANGELOG.md").read_text()
    papers = {(paper["authors"][0]["family-names"], paper["year"]) for paper in cited["references"]}
    assert papers == {("Carra", 2023), ("Datta", 2022), ("Cohen", 2020), ("Beysens", 2023), ("Matsubara", 2020)}
    assert all(paper["title"] and paper["type"] for paper in cited["references"])


def test_named_files_exist() -> None:
    for page in ("CONTRIBUTING.md", "SECURITY.md"):
        text = (ROOT / page).read_text()
        named = set(re.findall(r"(?<![\w/])(?:splitlearn|configs|scripts|tests|checkpoints)/[\w/.]*\w", text))
        for path in named - {"scripts/papers"}:
            assert list(ROOT.glob(f"{path}*")), f"{page} names {path}"


def test_pre_commit_runs_what_scripts_test_lints() -> None:
    (repository,) = content(".pre-commit-config.yaml")["repos"]
    hooks = {hook["entry"] for hook in repository["hooks"]}
    lints = re.findall(r"^\.venv/bin/(?:ruff|mypy).*$", (ROOT / "scripts/test").read_text(), re.MULTILINE)
    assert hooks == set(lints)


def test_ci_runs_on_the_pythons_that_are_named() -> None:
    jobs = content(".github/workflows/ci.yml")["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == re.findall(r"Python :: (3\.\d+)", PYPROJECT)
    assert {"run": ".ci/run"} in jobs["test"]["steps"]
    for path in (ROOT / ".github").rglob("*.yml"):
        assert yaml.safe_load(path.read_text())
