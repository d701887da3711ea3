"""Models of the user's own: a Python file that registers them with timm."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import sys
from pathlib import Path

from nctransfer.errors import ModelError

__all__ = ["import_plugin", "plugin_file"]


def plugin_file(plugin: str) -> Path:
    """The file of a plugin: a ``.py`` file, or a module by its name.

    Raises:
        ModelError: It is not there.
    """
    path = Path(plugin).expanduser()
    if plugin.endswith(".py"):
        if path.is_file():
            return path.absolute()
        raise ModelError(f"the plugin {plugin!r} is no file, or not there", "give a .py file, or the name of a module")
    try:
        spec = importlib.util.find_spec(plugin)
    except Exception:  # of a package above it, which this imports
        spec = None
    if spec is None or not spec.origin or not Path(spec.origin).is_file():
        raise ModelError(f"there is no module {plugin!r}", "give a .py file, or the name of a module that is installed")
    return Path(spec.origin)


def import_plugin(plugin: str) -> str:
    """Run a plugin, so that timm knows the architectures that it registers; returns the digest of its file.

    Raises:
        ModelError: It is not there, or fails.
    """
    path = plugin_file(plugin)
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
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
            f"the plugin {plugin!r} fails: {type(error).__name__}: {error}", "mend it, and try it by python alone"
        ) from error
    return digest
