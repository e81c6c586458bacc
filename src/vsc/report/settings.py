"""Lay nested settings side by side: those that differ between models first, the common ones apart."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """
    Turn a nested mapping into one level with dotted keys.

    Parameters
    ----------
    settings : mapping
        Nested settings.
    prefix : str
        What every key begins with.

    Returns
    -------
    dict
        {"model.alpha": 0.1} for {"model": {"alpha": 0.1}}; an empty mapping stays a value.
    """
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
    Split settings into those that differ between models and those that do not.

    Parameters
    ----------
    all_settings : sequence of mapping
        One nested mapping per model.

    Returns
    -------
    differing : list of (str, list of str)
        Key and one printed value per model, "–" where a model has no such setting.
    common : list of (str, str)
        Key and printed value.
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
