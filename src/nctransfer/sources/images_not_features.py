"""Whether a file or folder holds images where features were expected: a user may have forgotten ``--data``."""

from __future__ import annotations

import zipfile
from pathlib import Path

from nctransfer.errors import DataError
from nctransfer.sources.folder import walk
from nctransfer.sources.layout import is_image
from nctransfer.sources.manifest import SUFFIXES as TABLES
from nctransfer.sources.tar_archive import SUFFIXES as TARS

__all__ = ["holds_images"]

MAGIC = (b"PAR1", b"PK\x03\x04", b"PK\x05\x06")  # of Parquet and npz


def holds_images(path: Path) -> bool:
    r"""Whether ``--data`` reads this as images: a manifest, a tar or zip archive, or a folder with images in it.

    Files of features are none of these: a zip archive of arrays has no images, and Parquet is told by its first bytes.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     manifest = Path(folder, "pets.csv")
    ...     _ = manifest.write_text("path,label\n1.png,cat\n")
    ...     holds_images(manifest), holds_images(Path(folder))
    (True, False)
    """
    try:
        if path.is_dir():
            return any(is_image(name) for name, _ in walk(str(path)))
        if not path.is_file():
            return False
        if (name := path.name.lower()).endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                return any(map(is_image, archive.namelist()))
        with path.open("rb") as file:
            start = file.read(4)
    except (OSError, ValueError, zipfile.BadZipFile, DataError):  # reading it as features will say why
        return False
    return name.endswith((*TABLES, *TARS)) and start not in MAGIC
