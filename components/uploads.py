"""Files that a browser or a script sent to this studio."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder

from studio.errors import InputError

__all__ = ["uploaded"]


def uploaded(file: Mapping[str, Any]) -> Path:
    """The path of a file that a script uploaded, refused unless it lies among the uploads."""
    path = Path(str(file.get("path", ""))).resolve()
    if not path.is_file() or not path.is_relative_to(Path(get_upload_folder()).resolve()):
        raise InputError("The file was not uploaded to this studio. Upload it and give what the upload returned.")
    return path
