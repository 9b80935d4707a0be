from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache(request) -> Path:
    """Where the bindings stay between runs."""
    return request.config.cache.mkdir("tensorrt")
