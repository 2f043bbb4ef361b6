"""Where the parts of this checkout are."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
CORPUS = TESTS / "data" / "corpus"
VECTORS = TESTS / "data" / "vectors"
PROGRAMS = TESTS / "programs"
"""Programs that tests run beside themselves, and the upstreams among them."""
