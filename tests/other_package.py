"""A package of somebody else, which adds to nctransfer through an entry point."""

from __future__ import annotations

from pathlib import Path


def install(folder: Path, name: str, code: str, **points: str) -> Path:
    """Write a package of one module as an installer leaves it, and return the folder that ``sys.path`` must have.

    Args:
        folder: Where to write it; it may hold other packages.
        name: The name of the package and of its module.
        code: The content of the module.
        points: Which of its objects are entries of which registry, for example ``sources="squares=SQUARES"``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(code, "utf-8")
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", "utf-8")
    lines = []
    for registry, point in points.items():
        entry, _, target = point.partition("=")
        lines += [f"[nctransfer.{registry}]", f"{entry} = {name}:{target}"]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return folder
