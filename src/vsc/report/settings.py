"""Lay nested settings side by side: those that differ between models first, the common ones apart."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn a nested mapping into one level, {"model.alpha": 0.1} of {"model": {"alpha": 0.1}}; empty ones stay."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def compare(
    all_settings: Sequence[Mapping[str, Any]],
) -> tuple[list[tuple[str, list[str]]], list[tuple[str, str]]]:
    """
    Split settings, a nested mapping per model, into those that differ between models and those that do not.

    The first are (key, one printed value per model), "–" where a model has no such setting; the second (key, value).
    """
    flats = [flatten(settings) for settings in all_settings]
    differing, common = [], []
    for key in dict.fromkeys(key for flat in flats for key in flat):
        values = [_text(flat[key]) if key in flat else "–" for flat in flats]
        if len(set(values)) > 1:
            differing.append((key, values))
        else:
            common.append((key, values[0]))
    return differing, common


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
