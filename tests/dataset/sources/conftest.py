"""Fixtures shared by the tests of label formats and pictures."""

import pytest

from tests.conftest import SHARED


@pytest.fixture(scope="session")
def cases():
    """Inputs that went wrong before; README.md there says what is right."""
    if not (SHARED / "cases").is_dir():
        pytest.skip(f"{SHARED / 'cases'} is not here")
    return SHARED / "cases"
