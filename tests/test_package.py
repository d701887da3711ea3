"""The package as a whole: what an import loads, who imports whom, what is public, what the help says."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module, metadata, resources
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import nctransfer as nct
from conftest import Run, write_digits
from nctransfer import errors
from nctransfer.cli import app
from terminal import VIT, done

SOURCE = Path(nct.__file__).parent


def dotted(path: Path) -> str:
    """The name of a module within the package; a package within it goes by its own name."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


FILES = sorted(SOURCE.rglob("*.py"))
MODULES = {dotted(path): path for path in FILES if not path.is_relative_to(SOURCE / "cli")}  # the library
TOPS = {name.partition(".")[0] for name in MODULES} | {"cli"}
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


# What an import loads

HEAVY = {"torch", "torchvision", "timm", "pandas", "pyarrow", "numpy", "scipy", "sklearn", "PIL", "huggingface_hub"}
MANY = 500  # modules; --help needs 475


def modules_of(code: str) -> set[str]:
    """The modules that ``code`` loads into a fresh interpreter."""
    loaded = "{*sys.modules} - first"
    script = (
        f"import sys\nfirst = {{*sys.modules}}\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint('\\n', *{loaded})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    return set(done.stdout.splitlines()[-1].split())


def loaded_by(code: str) -> set[str]:
    """The packages of a fresh interpreter after running ``code``."""
    return {name.partition(".")[0] for name in modules_of(code)}


def command_line(*arguments: object) -> str:
    """Code that runs the command line."""
    return f"sys.argv[1:] = {list(map(str, arguments))!r}; from nctransfer.cli import main; main()"


@pytest.mark.parametrize(
    "code",
    [
        "import nctransfer",
        "import nctransfer.cli; nctransfer.cli.app",
        "import nctransfer; nctransfer.open_source('digits')",
        command_line("--help"),
        command_line("--version"),
        *(command_line(*name, "--help") for name in (["collapse"], ["fewshot"], ["cache"], ["cache", "list"])),
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_used(code: str) -> None:
    there = modules_of(code)
    assert "nctransfer" in there
    assert {name.partition(".")[0] for name in there} & HEAVY == set()
    assert len(there) < MANY  # a start takes as long as its imports


@pytest.mark.parametrize(("code", "name"), [("import PIL", "PIL"), ("import nctransfer; import numpy", "numpy")])
def test_what_is_loaded_is_noticed(code: str, name: str) -> None:
    assert name in loaded_by(code) & HEAVY


@pytest.mark.parametrize(("arguments", "runs"), [(("collapse", "--help"), False), (("cache", "list"), True)])
def test_a_command_loads_the_files_of_no_other(arguments: tuple[str, ...], runs: bool) -> None:
    there = modules_of(command_line(*arguments))
    assert {f"nctransfer.cli.{name}" for name in COMMANDS} & there == {f"nctransfer.cli.{arguments[0]}"}
    assert ("pydantic" in there) == runs  # typer checks the values of options with it


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the features of 18 images."""
    folder = tmp_path_factory.mktemp("stored")
    data = write_digits(folder / "pets", {"zero": 0, "one": 1, "two": 2}, 6)
    done("extract", *VIT, "--data", data, "--cache-dir", folder / "cache", "--quiet")
    return folder / "cache"


def test_stored_sets_are_listed_and_checked_without_torch(stored: Path) -> None:
    for what in ("list", "verify", "path"):
        there = loaded_by(command_line("cache", what, "--cache-dir", stored))
        assert there & HEAVY <= {"numpy", "pyarrow"}


def test_stored_features_are_measured_without_what_makes_them(stored: Path) -> None:
    there = modules_of(command_line("collapse", "--cache-dir", stored, "--format", "json", "--quiet"))
    assert there & {"torch", "pyarrow"} == {"torch", "pyarrow"}
    unwanted = {"timm", "torchvision", "pandas", "sklearn", "PIL", "huggingface_hub"}
    assert there & (unwanted | {"sympy", "torch._dynamo", "pyarrow.dataset", "scipy.stats", "rich.markdown"}) == set()


# Who imports whom


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def nodes(tree: ast.AST, lazy: bool) -> Iterator[ast.AST]:
    """Every node below ``tree``; without ``lazy`` only what runs on import."""
    for node in ast.iter_child_nodes(tree):
        if lazy or not (is_type_checking(node) or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            yield node
            yield from nodes(node, lazy)


def imports(source: str, lazy: bool = True) -> set[str]:
    """The dotted names that a module imports: modules, and names from modules."""
    found = set()
    for node in nodes(ast.parse(source), lazy):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "no relative imports"
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def own(found: set[str]) -> set[str]:
    """The modules of the package among imported names; of a package within it its own name."""
    parts = (name.split(".") for name in found)
    return {part[1] for part in parts if part[0] == "nctransfer" and len(part) > 1 and part[1] in TOPS}


def packages(found: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in found}


LAZY = """
import torch.nn
from typing import TYPE_CHECKING
from nctransfer import store as s, sources
if TYPE_CHECKING:
    from nctransfer.neural_collapse.collapse_report import collapse
def f():
    from timm.data import create_transform
    class A:
        import nctransfer.episodes
"""


@pytest.mark.parametrize(
    ("lazy", "modules", "others"),
    [
        (True, {"store", "sources", "neural_collapse", "episodes"}, {"torch", "typing", "timm", "nctransfer"}),
        (False, {"store", "sources"}, {"torch", "typing", "nctransfer"}),
    ],
)
def test_every_kind_of_import_is_found(lazy: bool, modules: set[str], others: set[str]) -> None:
    found = imports(LAZY, lazy)
    assert own(found) == modules
    assert packages(found) == others


GROUND = (
    "errors",
    "paths",
    "strict_json",
    "escaping",
    "checked_values",
    "registry",
    "devices",
    "intervals",
    "notebook",
)  # the files on which every wing stands
WINGS = (  # a wing imports only wings above it
    *("sources", "backbones", "features", "store"),
    *("neural_collapse", "episodes", "evaluation", "checkpoints", "rank", "heads", "label_audit", "ood"),
    *("maps", "report", "figures", "page", "cli"),
)
ORDER = (*GROUND, *WINGS)


def wing(path: Path) -> str:
    """The wing that a file stands in; the file itself if it stands in none."""
    return path.relative_to(SOURCE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", [path for path in FILES if wing(path) in ORDER], ids=dotted)
def test_a_wing_imports_only_wings_above_it(path: Path) -> None:
    found = own(imports(path.read_text("utf-8"))) - {"__version__"}
    assert found <= {*ORDER[: ORDER.index(wing(path)) + 1], "__version__"}


def test_every_file_stands_in_a_wing() -> None:
    assert {wing(path) for path in FILES} == {*ORDER, "__init__", "__main__"}
    assert {path.parent.name for path in SOURCE.glob("*/__init__.py")} == set(WINGS)


@pytest.mark.parametrize("name", [name for name in WINGS if name != "cli"])
def test_a_wing_says_its_sentence_and_holds_no_code(name: str) -> None:
    tree = ast.parse((SOURCE / name / "__init__.py").read_text("utf-8"))
    assert ast.get_docstring(tree)
    assert all(isinstance(node, ast.Expr | ast.Import | ast.ImportFrom) for node in tree.body)


def module_graph() -> dict[str, set[str]]:
    """Which files of the package each file imports when it is imported itself."""
    names = {dotted(path) for path in FILES}
    graph = {}
    for path in FILES:
        found = {name.removeprefix("nctransfer.") for name in imports(path.read_text("utf-8"), lazy=False)}
        graph[dotted(path)] = {one for name in found for one in (name, name.rpartition(".")[0]) if one in names}
    return graph


def test_no_files_import_each_other_in_a_circle() -> None:
    assert list(TopologicalSorter(module_graph()).static_order())


def test_reports_import_types_of_results_for_type_checking_only() -> None:
    results = {"evaluation", "checkpoints", "store", "backbones"}
    for path in (SOURCE / "report").glob("*.py"):
        assert own(imports(path.read_text("utf-8"), lazy=False)) & results == set()


@pytest.mark.parametrize("path", [path for path in FILES if wing(path) in ("cli", "__init__")], ids=dotted)
def test_the_library_is_imported_only_when_a_command_runs(path: Path) -> None:
    source = path.read_text("utf-8")
    assert packages(imports(source, lazy=False)) & (HEAVY | {"rich"}) == set()


FORBIDDEN = {"utils", "helpers", "common", "base"}


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_a_file_is_named_for_its_idea(path: Path) -> None:
    assert path.stem not in FORBIDDEN
    assert wing(path) == "cli" or path.stem not in nct.__all__


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("timm", {"backbones", "sources"}),
        ("typer", {"cli"}),
        ("click", set()),
        ("rich", {"cli", "report"}),
        ("sklearn", {"heads", "sources"}),
    ],
)
def test_a_package_is_imported_in_few_wings(package: str, allowed: set[str]) -> None:
    users = {wing(path) for path in FILES if package in packages(imports(path.read_text("utf-8")))}
    assert users <= allowed


def size(node: ast.FunctionDef | ast.ClassDef) -> int:
    """Lines of a class, or of a function's body without its docstring."""
    if isinstance(node, ast.ClassDef):
        return (node.end_lineno or 0) - node.lineno + 1
    body = node.body[1:] if ast.get_docstring(node, clean=False) else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_functions_and_classes_are_short(path: Path) -> None:
    long = [
        node.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and size(node) > (200 if isinstance(node, ast.ClassDef) else 45)
    ]
    assert long == []


def speaks(source: str) -> set[str]:
    """Calls by which a module would print or exit."""
    calls = (ast.unparse(node.func) for node in nodes(ast.parse(source), True) if isinstance(node, ast.Call))
    return {call for call in calls if call in {"print", "exit", "sys.exit", "sys.stdout.write", "sys.stderr.write"}}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_the_library_never_prints_and_never_exits(name: str) -> None:
    assert speaks(MODULES[name].read_text("utf-8")) == set()


def test_a_print_is_noticed() -> None:
    assert speaks("def f():\n    print(1)\n    sys.exit(2)") == {"print", "sys.exit"}


# What is public


def test_dir_is_what_is_public() -> None:
    assert dir(nct) == sorted(nct.__all__)
    assert set(nct._HOMES) | {"__version__"} == set(nct.__all__)


@pytest.mark.parametrize("name", nct.__all__)
def test_a_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(nct, name)
    assert value is getattr(nct, name)
    assert name == "__version__" or inspect.getdoc(value)


def test_what_is_not_public_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'nctransfer' has no attribute 'colapse'"):
        _ = nct.colapse


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {"__init__", "__main__", *WINGS}))
def test_a_module_says_what_is_public(name: str) -> None:
    module = import_module(f"nctransfer.{name}")
    assert module.__doc__
    assert module.__all__
    for public in module.__all__:
        assert hasattr(module, public)


def test_no_module_takes_the_place_of_a_public_function(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["nctransfer"])
    for module in pkgutil.walk_packages(nct.__path__, "nctransfer."):
        import_module(module.name)
    assert MODULES.keys() & set(nct.__all__) == set()
    for _ in range(2):
        features = nct.extract("test_vit", pets, random_init=True, device="cpu")
        assert nct.load_features(features.info.id).ids == features.ids
        assert nct.collapse(features, device="cpu").features.samples == 18
        assert nct.fewshot(features, ways=2, queries=2, episodes=10, device="cpu").rows[0].ways == 2


def test_the_docstring_of_errors_has_every_error() -> None:
    classes = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]
    assert len(classes) >= 9
    for error in classes:
        assert issubclass(error, nct.NCTransferError)
        assert f" {error.__name__} " in errors.__doc__


def test_types_go_with_the_package() -> None:
    assert resources.files("nctransfer").joinpath("py.typed").is_file()


# Version and help


def test_the_version_is_the_same_everywhere(run: Run) -> None:
    script = Path(sys.executable).with_name("nctransfer")
    by_script = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=300, check=True)
    assert run("--version").stdout == by_script.stdout == f"nctransfer {nct.__version__}\n"
    assert metadata.version("nctransfer") == nct.__version__


def options(command: Any) -> dict[str, Any]:
    """The options of a command by their long names."""
    return {
        flag: parameter
        for parameter in command.params
        for flag in parameter.opts
        if flag.startswith("--") and parameter.param_type_name == "option"
    }


SHARED = [
    "--model",
    "--checkpoint",
    "--random-init",
    "--data",
    "--split",
    "--classes",
    "--max-per-class",
    "--img-size",
    "--layers",
    "--mean",
    "--std",
    "--crop-pct",
    "--interpolation",
    "--model-kwargs",
    "--device",
    "--batch-size",
    "--workers",
    "--dtype",
    "--store-dtype",
    "--seed",
    "--cache-dir",
    "--offline",
    "--format",
    "--output",
    "--quiet",
]
THREE = ("extract", "collapse", "fewshot")


@pytest.mark.parametrize("flag", SHARED)
def test_a_shared_option_means_the_same_everywhere(flag: str) -> None:
    there = [options(COMMANDS[name]).get(flag) for name in THREE]
    assert all(there) or not any(there)
    for one in filter(None, there[1:]):
        for what in ("opts", "help", "default", "metavar", "is_flag", "multiple", "rich_help_panel"):
            assert getattr(one, what) == getattr(there[0], what)


def test_most_shared_options_are_there() -> None:
    assert len(options(COMMANDS["extract"]).keys() & set(SHARED)) >= 18


LEAVES = {
    **{name: command for name, command in COMMANDS.items() if not hasattr(command, "commands")},
    **{f"cache {name}": command for name, command in COMMANDS["cache"].commands.items()},
}


@pytest.mark.parametrize("name", LEAVES)
def test_the_help_of_a_command_has_all_its_options(name: str) -> None:
    result = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "120"})
    assert result.exit_code == 0
    assert f"Usage: nctransfer {name}" in result.stdout
    for flag, option in options(LEAVES[name]).items():
        assert flag in result.stdout
        assert option.help


def test_the_help_lists_every_command() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert {"demo", "extract", "collapse", "fewshot", "models", "cache"} <= COMMANDS.keys()
    assert all(f" {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("name", ["collapse", "fewshot"])
def test_the_help_says_what_features_may_be(name: str) -> None:
    shown = " ".join(CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).stdout.split())
    assert all(word in shown for word in ("stored set", "folder", "Parquet", ".npz", ".safetensors", "used last"))
