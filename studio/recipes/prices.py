"""What a run costs: by the hour here, or on a rented GPU by the operations it takes. Rough, and said to be.

The prices are assets/prices.yaml, or a prices.yaml of the workspace; that of this machine may come from the settings.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studio.errors import InputError

__all__ = ["Gpu", "Prices", "gpu_seconds", "money", "prices"]

_DEFAULT = Path(__file__).resolve().parents[2] / "assets" / "prices.yaml"
_USED = 0.3  # share of a GPU's stated speed that training of a large model reaches; small models reach less
_SMALL = 1e9  # parameters under which that share falls
_START_SECONDS = 120.0  # until a rented machine trains


class Gpu(BaseModel):
    """A GPU to rent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    price_per_hour: float = Field(ge=0)
    memory_gb: float = Field(gt=0)
    tflops: float = Field(gt=0)


class Prices(BaseModel):
    """What machines cost by the hour, in one currency, as of a month."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: str
    currency: str
    here: float | None = Field(None, ge=0)
    gpus: tuple[Gpu, ...] = ()


def prices(root: Path) -> Prices:
    """The workspace's own prices, or those that come with the studio. Raises InputError naming what does not fit."""
    own = root / "prices.yaml"
    file = own if own.is_file() else _DEFAULT
    return _read(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _read(file: Path, mark: int) -> Prices:
    try:
        return Prices.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{file}: {where} does not fit ({first['msg']}). Mend the file, or take it away.") from error
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{file} cannot be read ({error}). Mend the file, or take it away.") from error


def gpu_seconds(gpu: Gpu, numbers: int, tokens: int, *, learns_all: bool) -> float:
    """How long a GPU takes for so many tokens: 6 operations for each number and token where all numbers learn, 4 where
    adapters do (their weights' gradients are left out)."""
    share = _USED * min(1.0, max(0.05, numbers / _SMALL))
    return _START_SECONDS + (6 if learns_all else 4) * numbers * tokens / (gpu.tflops * 1e12 * share)


def money(amount: float, currency: str) -> str:
    """'0.40 EUR', '9 EUR', 'under 0.01 EUR'."""
    if 0 < amount < 0.01:
        return f"under 0.01 {currency}"
    return f"{amount:.2f} {currency}" if amount < 5 else f"{amount:,.0f} {currency}"
