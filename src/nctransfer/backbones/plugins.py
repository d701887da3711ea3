"""Plugins: Python files that register models of the user's own with timm."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import sys
from pathlib import Path

from nctransfer.errors import ModelError
from nctransfer.paths import expanded, is_file

__all__ = ["import_plugin", "plugin_digest", "plugin_file"]


def plugin_file(plugin: str) -> Path:
    """The file of a plugin.

    Args:
        plugin: A ``.py`` file, or the name of a module.

    Raises:
        ModelError: There is no such file or module.
    """
    path = expanded(plugin)
    if plugin.endswith(".py"):
        if is_file(path):
            return path.absolute()
        raise ModelError(
            f"the plugin {plugin!r} is not a file, or does not exist", "give a .py file, or the name of a module"
        )
    try:
        spec = importlib.util.find_spec(plugin)
    except Exception:  # find_spec imports the packages above the module
        spec = None
    if spec is None or not spec.origin or not Path(spec.origin).is_file():
        raise ModelError(f"there is no module {plugin!r}", "give a .py file, or the name of an installed module")
    return Path(spec.origin)


def plugin_digest(plugin: str) -> str:
    """The digest of a plugin's file, which is not run.

    Raises:
        ModelError: There is no such plugin.
    """
    return hashlib.blake2b(plugin_file(plugin).read_bytes(), digest_size=16).hexdigest()


def import_plugin(plugin: str) -> str:
    """Run a plugin, so that timm knows the architectures that it registers.

    Returns:
        The digest of its file.

    Raises:
        ModelError: There is no such plugin, or it raises an error.
    """
    path, digest = plugin_file(plugin), plugin_digest(plugin)
    name = f"nctransfer_plugin_{digest}" if plugin.endswith(".py") else plugin
    if name in sys.modules:
        return digest
    try:
        if name == plugin:
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
                importlib.import_module(name)
        else:
            found = importlib.util.spec_from_file_location(name, path)
            assert found is not None
            assert found.loader is not None
            sys.modules[name] = module = importlib.util.module_from_spec(found)
            with contextlib.redirect_stdout(sys.stderr):
                found.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        sys.modules.pop(name, None)
        raise ModelError(
            f"the plugin {plugin!r} raises an error: {type(error).__name__}: {error}",
            "correct it; running it with python alone shows where the error is",
        ) from error
    return digest
