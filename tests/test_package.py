"""The package as a whole: what an import loads, who imports whom, what is public, what the help says."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module, metadata, resources
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import nctransfer as nct
from conftest import Run
from nctransfer import errors
from nctransfer.cli import app

SOURCE = Path(nct.__file__).parent


def dotted(path: Path) -> str:
    """The name of a module within the package; a package within it goes by its own name."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {
    dotted(path): path for path in SOURCE.rglob("*.py") if not path.is_relative_to(SOURCE / "cli")
}  # the library; the command line has rules of its own
TOPS = {name.partition(".")[0] for name in MODULES} | {"cli"}
CLI_MODULES = {f"cli.{path.stem}": path for path in (SOURCE / "cli").glob("*.py")}
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


# What an import loads

HEAVY = {"torch", "torchvision", "timm", "pandas", "pyarrow", "numpy", "scipy", "sklearn", "PIL", "huggingface_hub"}


def loaded_by(code: str) -> set[str]:
    """The top-level modules of a fresh interpreter after running ``code``."""
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint('\\n', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def help_of(*arguments: str) -> str:
    """Code that runs the command line as far as its help."""
    return f"sys.argv[1:] = {list(arguments)!r}; from nctransfer.cli import main; main()"


@pytest.mark.parametrize(
    "code",
    [
        "import nctransfer",
        "import nctransfer.cli",
        "import nctransfer.sources; nctransfer.sources.open_source('digits')",
        help_of("--help"),
        help_of("--version"),
        help_of("fewshot", "--help"),
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_used(code: str) -> None:
    there = loaded_by(code)
    assert "nctransfer" in there
    assert there & HEAVY == set()


@pytest.mark.parametrize(("code", "name"), [("import torch", "torch"), ("import nctransfer; import numpy", "numpy")])
def test_what_is_loaded_is_noticed(code: str, name: str) -> None:
    assert name in loaded_by(code) & HEAVY


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
from nctransfer import store as s, images
if TYPE_CHECKING:
    from nctransfer.measures import collapse
def f():
    from timm.data import create_transform
    class A:
        import nctransfer.episodes
"""


@pytest.mark.parametrize(
    ("lazy", "modules", "others"),
    [
        (True, {"store", "images", "measures", "episodes"}, {"torch", "typing", "timm", "nctransfer"}),
        (False, {"store", "images"}, {"torch", "typing", "nctransfer"}),
    ],
)
def test_every_kind_of_import_is_found(lazy: bool, modules: set[str], others: set[str]) -> None:
    found = imports(LAZY, lazy)
    assert own(found) == modules
    assert packages(found) == others


MAY_IMPORT = {
    "__init__": {
        *{"checkpoints", "errors", "evaluation", "expectation", "extraction", "features", "inventory", "measures"},
        *{"pairs", "probing", "sources", "store"},
    },
    "__main__": {"cli"},
    "errors": set(),
    "devices": {"errors"},
    "images": {"errors"},
    "sources": {"errors", "images"},
    "features": {"errors"},
    "foreign": {"errors", "features"},
    "store": {"errors", "features", "foreign", "images"},
    "hub": {"errors"},
    "catalogue": {"errors", "hub"},
    "weights": {"catalogue", "errors", "hub"},
    "folding": set(),
    "backbones": {"catalogue", "devices", "errors", "folding", "hub", "store", "weights"},
    "loader": {"errors", "images"},
    "numerics": {"backbones", "errors", "features", "images", "store"},
    "inventory": {"errors", "features", "images", "loader"},
    "extraction": {
        *{"backbones", "catalogue", "devices", "errors", "features", "hub"},
        *{"images", "loader", "sources", "store", "weights"},
    },
    "statistics": {"devices", "errors", "features"},
    "measures": {"errors", "features", "statistics"},
    "episodes": {"errors", "features"},
    "products": {"devices", "episodes", "errors", "features"},
    "expectation": {"devices", "episodes", "errors", "features", "products"},
    "classifiers": {"errors", "products"},
    "theory": {"errors", "measures", "statistics"},
    "evaluation": {
        *{"classifiers", "episodes", "errors", "expectation", "features"},
        *{"products", "statistics", "theory"},
    },
    "pairs": {"errors", "evaluation", "expectation", "features", "statistics", "theory"},
    "probing": {"classifiers", "devices", "errors", "features", "statistics"},
    "checkpoints": {
        *{"backbones", "catalogue", "errors", "evaluation", "extraction", "features", "hub"},
        *{"images", "measures", "sources", "store"},
    },
    "figures": {"checkpoints", "errors"},
    "tables": {
        *{"catalogue", "checkpoints", "errors", "evaluation", "expectation", "extraction"},
        *{"inventory", "measures", "numerics"},
        *{"pairs", "probing", "store", "theory"},
    },
}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_only_what_stands_below_it(name: str) -> None:
    package, _, inner = name.partition(".")
    found = own(imports(MODULES[name].read_text("utf-8")))
    is_package = MODULES[name].name == "__init__.py"
    assert found - ({package} if inner or is_package else set()) <= MAY_IMPORT[package]


WITHIN = {  # each module of a package: which of its neighbours it may import
    "sources.contents": set(),
    "sources.labels": set(),
    "sources.layout": set(),
    "sources.digits": set(),
    "sources.folder": {"contents", "layout"},
    "sources.archives": {"contents", "layout"},
    "sources.manifest": {"contents", "labels"},
    "sources.parquet": {"contents", "folder", "labels", "layout"},
    "sources.readers": {"contents", "labels", "layout"},
}


@pytest.mark.parametrize("name", sorted(name for name in MODULES if "." in name))
def test_within_a_package_too(name: str) -> None:
    package = name.partition(".")[0]
    found = imports(MODULES[name].read_text("utf-8"))
    neighbours = {part[2] for part in (one.split(".") for one in found) if part[:2] == ["nctransfer", package]}
    assert neighbours <= WITHIN[name]


def test_every_module_of_the_library_is_looked_at() -> None:
    assert {"__init__", "images", "sources", "sources.folder", "sources.readers"} <= MODULES.keys()
    assert not any("cli" in name for name in MODULES)


def test_the_store_takes_no_more_of_the_images_than_a_name() -> None:
    found = imports(MODULES["store"].read_text("utf-8"))
    assert {name for name in found if name.startswith("nctransfer.images")} <= {"nctransfer.images.safe_name"}


@pytest.mark.parametrize("name", ["__init__", "tables"])
def test_result_types_are_not_imported_before_they_are_needed(name: str) -> None:
    assert own(imports(MODULES[name].read_text("utf-8"), lazy=False)) <= {"errors"}


@pytest.mark.parametrize("name", sorted(CLI_MODULES))
def test_a_command_imports_the_library_only_when_it_runs(name: str) -> None:
    source = CLI_MODULES[name].read_text("utf-8")
    assert own(imports(source, lazy=False)) <= {"cli", "errors"}
    assert packages(imports(source, lazy=False)) & (HEAVY | {"rich"}) == set()


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("timm", {"backbones", "catalogue", "weights", "sources.readers"}),
        ("typer", set()),
        ("click", set()),
        ("rich", {"tables"}),
        ("sklearn", set()),
    ],
)
def test_a_package_is_imported_in_one_place(package: str, allowed: set[str]) -> None:
    users = {name for name, path in MODULES.items() if package in packages(imports(path.read_text("utf-8")))}
    assert users == allowed


def test_the_command_line_imports_no_click() -> None:
    assert all("click" not in packages(imports(path.read_text("utf-8"))) for path in CLI_MODULES.values())


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


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {"__init__", "__main__"}))
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
        assert nct.collapse(features, device="cpu").features["samples"] == 18
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
    by_script = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60, check=True)
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
