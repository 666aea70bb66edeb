"""Where the reference material lies, in checkouts that have it beside them."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "../shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    if not (SHARED / "shopify").is_dir():
        pytest.skip("the reference material isn't beside the repository")
    return SHARED / "shopify"
