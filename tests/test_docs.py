"""The pages of ``docs/``: their code runs, their outputs are real, and what the build of the site does not check."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import griffe
import pytest
import yaml
from markdown import Markdown
from math_core import LatexError

import nctransfer as nct
from page_tables import names, tables, written

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def script(name: str) -> ModuleType:
    """A script of ``docs/``, as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    return module


blocks = script("code_blocks")
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
RUN = [path.relative_to(DOCS).as_posix() for path in blocks.pages()]


def text(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


# Code blocks


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[] if page in ("getting-started.md", "reading-collapse.md") else [pytest.mark.slow])
        for page in RUN
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what a reader would run with default filters
def test_the_code_of_a_page_runs_and_prints_what_the_page_shows(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in blocks.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    outputs = list(blocks.run_page(text(page), tmp_path))
    differences = [output.difference for output in outputs if output.difference]
    assert not differences, "\n".join([*differences, f"If that is right: python docs/code_blocks.py docs/{page}"])


@pytest.mark.parametrize("page", PAGES)
def test_a_block_is_run_or_says_why_not(page: str) -> None:
    for fence in blocks.fences(text(page)):
        assert fence.language.partition(" ")[0] in ("sh", "python", "text", "toml"), f"line {fence.start}"
        assert fence.note != "", f"line {fence.start}: no reason is given"


def test_an_output_that_differs_is_found_and_rewritten(tmp_path: Path) -> None:
    page = "```python\nfor n in range(12):\n    print('n', 100 + n, sep='=')\n```\n\n```text\nn=100\n…\nn=115\n```\n"
    [output] = blocks.run_page(page, tmp_path)
    assert "line 9" in output.difference
    assert blocks.rewritten(page, [output]) == page.replace("115", "111")
    near = page.replace("115", "112")  # within 2%
    assert [one.difference for one in blocks.run_page(near, tmp_path)] == [None]


@pytest.mark.parametrize(
    ("expected", "got", "is_alike"),
    [
        ("cdnv  1.1156  ↓", "cdnv 1.12 ↓", True),
        ("cdnv  1.1156  ↓", "cdnv 1.18 ↓", False),
        ("cdnv  1.1156  ↓", "cdnv 1.1156 ↑", False),
        ("200 in 8.3 s, 24.2 images/s", "200 in 91 s, 2.2 images/s", True),
        ("200 in 8.3 s", "100 in 8.3 s", False),
        ("model-64b8fe08/rows (digest f196741c)", "model-00000000/rows (digest 12345678)", True),
        ("one value", "one value 2", False),
        ("──── ─", "─", True),
    ],
)
def test_which_lines_are_alike(expected: str, got: str, is_alike: bool) -> None:
    assert blocks._is_alike(expected, got, 0.02) == is_alike


def test_a_command_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="exit code 3"):
        list(blocks.run_page("```sh\nexit 3\n```\n", tmp_path))
    with pytest.raises(AssertionError, match="exit code 2"):
        list(blocks.run_page("```sh\nnctransfer collapse --no-such-option\n```\n", tmp_path))


# The reference


def test_the_command_line_reference_is_what_the_code_says() -> None:
    made = script("make_cli_reference").reference()
    assert made == text("reference/cli.md"), "run: python docs/make_cli_reference.py"


def test_the_api_reference_has_every_public_name() -> None:
    named = re.findall(r"^::: nctransfer\.(\w+)$", text("reference/api.md"), re.MULTILINE)
    assert sorted(named) == sorted(name for name in nct.__all__ if not name.startswith("__"))


def test_roles_of_docstrings_become_links_or_code() -> None:
    package = griffe.load(
        "nctransfer", search_paths=[ROOT / "src"], extensions=griffe.load_extensions(DOCS / "sphinx_roles.py")
    )

    def docstrings(one: Any) -> Iterator[str]:
        yield one.docstring.value if one.docstring else ""
        for member in one.members.values():
            if not member.is_alias:
                yield from docstrings(member)

    everything = list(docstrings(package))
    assert len(everything) > 500
    assert not [text for text in everything if re.search(r":\w+:`", text)]
    link = script("sphinx_roles")._ROLE
    roles = script("sphinx_roles").SphinxRoles()
    roles.on_package(pkg=package)
    home = package["FeatureSet"].canonical_path
    for role, expected in {
        f":class:`~{home}`": "[`FeatureSet`][nctransfer.FeatureSet]",
        f":meth:`~{home}.from_arrays`": "[`from_arrays`][nctransfer.FeatureSet.from_arrays]",
        ":meth:`FeatureSet.dim`": "[`FeatureSet.dim`][nctransfer.FeatureSet.dim]",
        ":func:`collapse`": "[`collapse`][nctransfer.collapse]",
        f":meth:`~{home}.no_such_method`": "`no_such_method`",
        ":func:`nctransfer.devices.pick`": "`nctransfer.devices.pick`",
    }.items():
        assert link.sub(roles._link, role) == expected


# Formulas


ARITHMATEX = {"pymdownx.arithmatex": {"generic": True}}


def rendered(markdown: str) -> str:
    extension = script("mathml").MathML()
    return Markdown(extensions=["pymdownx.arithmatex", extension], extension_configs=ARITHMATEX).convert(markdown)


def test_formulas_become_mathml() -> None:
    inline = rendered(r"Where $a < b_{ij}$ holds, and `$x$` is code.")
    assert "<math>" in inline
    assert "&lt;" in inline
    assert "<code>$x$</code>" in inline
    assert 'display="block"' in rendered("$$\n\\frac{a}{b}\n$$")
    assert "arithmatex" not in inline


def test_a_formula_that_is_not_understood_stops_the_build() -> None:
    with pytest.raises(LatexError):
        rendered(r"$\nosuchcommand{a}$")


# Tables that scripts make


@pytest.mark.parametrize(("page", "folder"), [("simulations.md", "simulations"), ("performance.md", "benchmarks")])
def test_a_page_has_the_table_of_every_module_and_none_is_empty(page: str, folder: str) -> None:
    made = tables(text(page), f"tests/{folder}")
    assert sorted(made) == names(ROOT / "tests" / folder)
    assert [name for name, table in made.items() if len(re.findall(r"^\|.*\|$", table, re.MULTILINE)) < 3] == []


def test_a_table_is_found_where_it_was_written() -> None:
    page = "before\n<!-- one: made by tests/a -->\n<!-- end -->\n<!-- two: made by tests/b -->\n<!-- end -->\nafter\n"
    assert tables(page, "tests/a") == {"one": ""}
    page = written(page, "two", "| a |\n| --- |\n| 1 |")
    assert tables(page, "tests/a") == {"one": ""}
    assert tables(page, "tests/b") == {"two": "| a |\n| --- |\n| 1 |"}
    with pytest.raises(ValueError, match="three"):
        written(page, "three", "")


# What the build of the site does not check


def in_nav(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from in_nav(value) if isinstance(value, list) else [value]


def test_the_navigation_has_every_page_once() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(in_nav(settings["nav"])) == PAGES


def test_pictures_are_there() -> None:
    shown = [(page, name) for page in PAGES for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text(page))]
    assert shown
    assert [(page, name) for page, name in shown if not (DOCS / page).parent.joinpath(name).is_file()] == []


def test_nothing_is_fetched_from_elsewhere() -> None:
    """The site can be read without a network: no fonts, scripts or pictures of others."""
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert settings["theme"]["font"] is False
    assert not any("://" in name for kind in ("extra_css", "extra_javascript") for name in settings.get(kind, []))
    assert not [page for page in PAGES if re.search(r"!\[[^\]]*\]\(\w+://|<(?:img|script)\b", text(page))]


# Beside the site


def test_the_citation_has_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == nct.__version__
    assert citation["license"] == "Apache-2.0"


def test_what_the_guide_for_contributors_names_is_there() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:\.venv/bin/python )?((?:docs|src|tests)/[\w./]+)", guide)) - {"docs/PAGE.md"}
    folders = {f"src/nctransfer/{name}" for name in re.findall(r"^\| `([\w]+/)` \|", guide, re.MULTILINE)}
    assert len(named) >= 6
    assert [name for name in named | folders if not (ROOT / name).exists()] == []
    wings = {path.parent.name for path in (ROOT / "src" / "nctransfer").glob("*/__init__.py")}
    assert {Path(name).name for name in folders} == wings
    commands = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "zensical build --clean --strict" in commands
