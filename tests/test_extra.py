"""If a module of the extra ``train`` is missing, every program names the command to install it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path

import pytest

from seqnorm import extra
from seqnorm.command.main import COMMANDS
from seqnorm.training.errors import line_of

ROOT = Path(__file__).parents[1]
# Simulate, in a process of its own, that the module is not installed.
WITHOUT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
sys.argv = {arguments!r}
{run}
"""
# Modules of the extra, by their users.
NOT_TO_TRAIN = {"pyarrow", "jinja2", "joblib"}
OPTIONS = ("--data.corpus=good.csv", "--trainer.max_epochs=1", "--model.hidden_size=4")


def without(missing: str, *arguments: str) -> tuple[int, str]:
    """Return exit status and standard error of ``train.py`` without a module."""
    run = f"import runpy; runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')"
    code = WITHOUT.format(missing=missing, arguments=["train.py", *arguments], run=run)
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return process.returncode, process.stderr


@pytest.mark.parametrize("missing", sorted(extra.MODULES - NOT_TO_TRAIN))
def test_train_py(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{'corn crop' if n % 2 else 'goal match'} w{n},{n % 2}\n" for n in range(30))
    Path("good.csv").write_text("text,label\n" + rows)
    status, error = without(missing, "fit", *OPTIONS)
    assert status == 2, error
    told = error.splitlines()[-1]
    assert told.startswith("error: ")
    assert missing in told
    assert "pip install 'seqnorm[train]'" in told
    assert "Traceback" not in error
    assert not Path("runs").exists(), "found before anything is trained"


@pytest.mark.parametrize("missing", ["yaml", "jsonargparse"])
def test_the_studies(missing: str) -> None:
    status, error = without(missing, "study", "--help")
    assert status == 2
    expected = f"error: seqnorm study needs the module {missing}, which is not installed: "
    assert error.splitlines()[-1] == f"{expected}pip install 'seqnorm[train]'"
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "module", ["classification_table", "baseline", "language_table", "series_table"]
)
def test_modules_that_are_programs(module: str) -> None:
    code = "import sys; sys.modules['lightning'] = None; import runpy; "
    code += f"runpy.run_module('seqnorm.training.results.{module}', run_name='__main__')"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert process.returncode == 1
    assert "seqnorm.training needs the module lightning" in process.stderr.splitlines()[-1]
    assert "pip install 'seqnorm[train]'" in process.stderr.splitlines()[-1]


def test_what_is_not_the_extra_is_not_explained() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'seqnorm.nothing'$"):
        extra.need("a test", "seqnorm.nothing")
    with pytest.raises(ModuleNotFoundError, match="No module named 'nothing'"), extra.or_exit():
        import_module("nothing")
    psutil = ModuleNotFoundError("`Monitor` needs `psutil`: pip install -U 'psutil'")
    assert line_of(psutil) == str(psutil)
    assert line_of(ModuleNotFoundError("Neither `tensorboard` nor `x` is there")).endswith(
        "(all that training needs: pip install 'seqnorm[train]')"
    )


def test_asked_for_before_a_long_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ModuleNotFoundError, match=r"^a study needs the module scipy.*seqnorm\[t"):
        extra.need("a study", "matplotlib", "scipy")


def test_the_lists_of_packages_agree() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (block,) = re.findall(r"^train = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert re.findall(r'"([\w-]+)', block) == list(extra.TRAIN)
    for name, module in extra.TRAIN.items():
        installed = {str(file).partition("/")[0] for file in distribution(name).files or ()}
        assert module in installed, f"{name} has the module"
    for command, (_, needed) in COMMANDS.items():
        of_sweep = {"optuna"} if command == "sweep" else set()  # an extra of its own
        assert set(needed) - of_sweep <= extra.MODULES, command
