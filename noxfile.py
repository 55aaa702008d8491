"""The parts of the gate, each in an environment of its own: ``nox -s lint``, ``nox --list``.

``.ci/run`` is the gate itself and does not need nox.
"""

from __future__ import annotations

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True
PYTHON = "3.11"  # of constraints.txt


def run(session: nox.Session, name: str) -> None:
    """Install what the tests need and run one part of the gate."""
    session.install("-c", "constraints.txt", "-e", ".[dev]")
    session.run("bash", ".ci/part", name, external=True)


@nox.session(python=PYTHON)
def lint(session: nox.Session) -> None:
    """Check style and format with ruff."""
    session.install("-c", "constraints.txt", "ruff")
    session.run("bash", ".ci/part", "lint", external=True)


@nox.session(python=PYTHON)
def types(session: nox.Session) -> None:
    """Check types with mypy."""
    run(session, "types")


@nox.session(python=PYTHON)
def tests(session: nox.Session) -> None:
    """Run all tests that need no network."""
    run(session, "tests")


@nox.session(python=PYTHON)
def whole(session: nox.Session) -> None:
    """Run every case of the long matrices, of which the gate runs a part."""
    run(session, "whole")


@nox.session(python=PYTHON)
def network(session: nox.Session) -> None:
    """Fetch every corpus as its package really is."""
    run(session, "network")


@nox.session(python=PYTHON)
def no_kernels(session: nox.Session) -> None:
    """Test the layers as on a machine without a C compiler."""
    run(session, "no_kernels")


@nox.session(python=PYTHON)
def docs(session: nox.Session) -> None:
    """Build the documentation and look at every page of it."""
    run(session, "docs")


@nox.session(python=PYTHON)
def torchtext(session: nox.Session) -> None:
    """Run the tests with torch 2.3 and torchtext."""
    session.install("-c", "constraints-torchtext.txt", "-e", ".[dev,torchtext]")
    session.run("bash", ".ci/part", "torchtext", external=True)


@nox.session(python=PYTHON)
def rl(session: nox.Session) -> None:
    """Test the adapters for reinforcement learning with their libraries."""
    tools = ("matplotlib", "pytest>=8", "pytest-timeout", "pytest-xdist", "hypothesis")
    session.install("-c", "constraints.txt", "-e", ".[rl]", *tools)
    tests = ("tests/integrations", "tests/test_cartpole_benchmark.py")
    session.run("python", "-m", "pytest", "-q", *tests)


@nox.session(python=PYTHON)
def forecasting(session: nox.Session) -> None:
    """Test normalised layers in the models of pytorch-forecasting and darts."""
    tools = ("matplotlib", "pytest>=8", "pytest-timeout", "pytest-xdist", "hypothesis")
    # These libraries need an older pandas than constraints.txt.
    session.install("torch==2.13.0", "-e", ".[forecasting]", *tools)
    tests = ("test_forecasting_page.py", "test_pytorch_forecasting.py")
    session.run("python", "-m", "pytest", "-q", *(f"tests/integrations/{name}" for name in tests))


@nox.session(python=PYTHON)
def programs(session: nox.Session) -> None:
    """Test layers as programs of AOTInductor, compiled for minutes, and of ExecuTorch."""
    session.install("-c", "constraints.txt", "-e", ".[dev]")
    session.install("executorch>=1.5")
    tests = "tests/export/test_programs.py"
    session.run("python", "-m", "pytest", "-q", "-rs", tests, env={"SEQNORM_COMPILE": "1"})
