"""Reads tests/data/vectors/: cases, and the bytes that their items stand for. Their README.md has the schema."""

import json
from typing import Any

import pytest

from harness.places import VECTORS


def load(name: str) -> list[Any]:
    """Return the cases of one file, each as a parameter of a test."""
    cases = json.loads((VECTORS / name).read_text(encoding="utf-8"))["cases"]
    return [pytest.param(case, id=case["name"]) for case in cases]


def to_bytes(items: list[dict[str, Any]]) -> bytes:
    """Return the bytes that a list of items stands for."""
    return b"".join(_item_bytes(item) for item in items)


def fill(items: Any, words: dict[str, Any]) -> Any:
    """Return ``items`` with every word that stood for something before replaced by that."""
    if isinstance(items, list):
        return [fill(item, words) for item in items]
    if isinstance(items, dict):
        return {key: fill(value, words) for key, value in items.items()}
    return words.get(items, items) if isinstance(items, str) else items


def frame(payload: bytes) -> bytes:
    """Return ``payload`` behind its length, made here and not by the code under test."""
    return len(payload).to_bytes(4, "big") + payload


def _item_bytes(item: dict[str, Any]) -> bytes:
    match item:
        case {"text": text}:
            return text.encode()
        case {"hex": digits}:
            return bytes.fromhex(digits)
        case {"message": message}:
            return frame(json.dumps(message, separators=(",", ":")).encode())
        case {"frame": items}:
            return frame(to_bytes(items))
        case {"repeat": items, "times": times}:
            return to_bytes(items) * times
    raise ValueError(f"unknown item: {item}")
