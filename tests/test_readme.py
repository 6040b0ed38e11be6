"""What the README says about settings is what the settings are. `python -m tests.test_readme` writes it anew."""

from __future__ import annotations

import re
from pathlib import Path

from studio.settings import Settings

README = Path(__file__).resolve().parents[1] / "README.md"
FLAGS = ("workspace", "database_url", "host", "port")
SHOWN = {"cache": "user cache folder", "runtime": "private temporary folder"}


def settings_rows() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        flag = f"`--{name.replace('_', '-')}`" if name in FLAGS else ""
        default = SHOWN.get(name) or ("" if field.default in (None, ()) else f"`{field.default}`")
        rows.append(f"| `LADDER_{name.upper()}` | {flag} | {field.description} | {default} |")
    return "\n".join(rows)


def current() -> str:
    text = README.read_text(encoding="utf-8")
    head = "| variable | flag | meaning | default |\n|---|---|---|---|\n"
    return re.sub(
        r"\| variable \|.*?(?=\n\nThe studio listens)", lambda _: head + settings_rows(), text, flags=re.DOTALL
    )


def test_the_settings_table_is_up_to_date():
    assert README.read_text(encoding="utf-8") == current(), "Run: python -m tests.test_readme"


def test_no_path_of_a_developer_machine_is_in_it():
    assert not re.search(r"/(home|root|work|tmp)/", README.read_text(encoding="utf-8"))


if __name__ == "__main__":
    README.write_text(current(), encoding="utf-8")
