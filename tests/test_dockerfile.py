"""The `Dockerfile`: what it is built on, what its layers are, what the image says of itself."""

import re

from authsvc import __version__
from tests.servers import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
FINAL_STAGE = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]


def test_its_label_tells_the_version() -> None:
    """What `docker inspect` shows is `authsvc.__version__`."""
    assert re.findall(r'org\.opencontainers\.image\.version="(.*?)"', FINAL_STAGE) == [__version__]


def test_every_stage_is_built_on_one_python_and_one_debian() -> None:
    """One image from outside, named by the minor version and the release of Debian; all stages are built on it."""
    outside, *stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert outside == "python:3.14-slim-trixie"
    assert set(stages) == {"base"}


def test_an_update_of_the_code_ships_the_code_alone() -> None:
    """The dependencies are a layer of their own, below the code's, built where no code is."""
    first, last = re.findall(r"^COPY --from=(\S+) (\S+)", FINAL_STAGE, re.MULTILINE)
    assert (first, last) == (("dependencies", "/app/.venv"), ("code", "/app"))
    (stage,) = re.findall(r"^FROM base AS dependencies\n(.*?)^FROM ", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^COPY (.*)", stage, re.MULTILINE) == ["requirements.txt ./"]
