"""The imports between packages and modules, read from the source, and the modules they load."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import source_tree
from source_tree import ROOT, WINGS, nodes

import seqnorm.nn.layers.cells

PACKAGE = ROOT / "seqnorm"
# The rooms of seqnorm.training and the modules beside them, from the ground up.
ROOMS = [
    "wrong_values",
    "errors",
    "checkpoints",
    "distributed",
    "results",
    "data",
    "callbacks",
    "tasks",
    "prediction",
    "export",
    "run",
    "search",
]
# The modules of nn that the file of a cell may import: it knows neither other cells nor backends.
OF_A_CELL = ("autocast", "check", "recurrence.", "layers.")
ARROWS = {  # a package, and the packages of seqnorm that it may import
    "nn": set(),
    "integrations": {"nn"},
    "weights": {"nn"},
    "export": {"nn"},
    "models": {"nn"},
    "datasets": set(),
    "training": {"models", "datasets", "export", "nn"},
    "studies": {"training", "models", "datasets", "nn"},
    "command": {"studies", "training", "nn"},
}
# Any package may import these, because they import nothing of ours.
ABOVE = {"seqnorm.extra", "seqnorm.files", "seqnorm.typed", "seqnorm.version"}
HEAVY = ["lightning", "tokenizers", "matplotlib", "sklearn", "pandas", "rich", "torchmetrics"]
HEAVY += ["torchtext", "datasets"]
HEAVY += ["pyarrow", "tensorboard", "jsonargparse", "yaml", "hypothesis", "pytest"]


MODULES = source_tree.modules(ROOT)
CELL_FILES = [name for name in MODULES if name.startswith("seqnorm.nn.layers.cells.")]


def imports(name: str, *, typing_too: bool = True) -> Iterator[str]:
    return source_tree.imports(MODULES, name, typing_too=typing_too)


def part(name: str) -> str:
    """Return the package of seqnorm that contains a module; "" for seqnorm itself."""
    pieces = name.split(".")
    return pieces[1] if len(pieces) > 1 and (PACKAGE / pieces[1]).is_dir() else ""


def ours(name: str) -> set[str]:
    return {target for target in imports(name) if target.split(".")[0] == "seqnorm"}


def test_the_walk_sees_the_tree() -> None:
    assert {
        "seqnorm",
        "seqnorm.nn",
        "seqnorm.nn.backends.aten",
        "seqnorm.nn.recurrence.scan",
    } <= set(MODULES)
    assert "seqnorm.nn.recurrence.step" in ours("seqnorm.nn.layers.layer"), (
        "relative imports are resolved"
    )
    assert "seqnorm.nn.backends.reference" in ours("seqnorm.nn.layers.cell")
    assert set(CELL_FILES) >= {"seqnorm.nn.layers.cells.lstm", "seqnorm.nn.layers.cells.slstm"}
    assert "torch" in set(imports("seqnorm.nn.recurrence.scan"))
    for target in {t for name in MODULES for t in ours(name)}:
        assert target in MODULES, target


STANDARD: frozenset[str] = getattr(sys, "stdlib_module_names", frozenset())
of_python_3_10 = pytest.mark.skipif(not STANDARD, reason="Python 3.9 does not list its modules")


@of_python_3_10
@pytest.mark.parametrize("name", [name for name in MODULES if part(name) == "nn"])
def test_the_library_proper_needs_torch_alone(name: str) -> None:
    outside = {target.split(".")[0] for target in imports(name)} - {"seqnorm", "torch"}
    if name.startswith("seqnorm.nn.backends.triton.kernels."):
        outside -= {"triton"}  # with which PyTorch comes where they run
    assert outside <= STANDARD


def test_triton_is_imported_only_where_its_kernels_run() -> None:
    code = """
import sys, torch, seqnorm
seqnorm.available_backends()
layer = seqnorm.LSTM(3, 4, norm="layer")
layer(torch.randn(5, 2, 3))[0].sum().backward()
try:
    with seqnorm.use_backend("triton"):
        layer(torch.randn(5, 2, 3))
except RuntimeError as error:
    assert "triton" in str(error), error
else:
    raise AssertionError("a CPU is no GPU")
assert not [name for name in sys.modules if name.split(".")[0] == "triton"]
"""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-W", "error", "-c", code], env=environment, check=True)


@of_python_3_10
@pytest.mark.parametrize("name", [name for name in MODULES if part(name) in ("models", "weights")])
def test_models_and_weights_need_torch_alone(name: str) -> None:
    outside = {target.split(".")[0] for target in imports(name)} - {"seqnorm", "torch"}
    assert outside <= STANDARD


@pytest.mark.parametrize("name", [name for name in MODULES if part(name)])
def test_packages_import_one_way(name: str) -> None:
    own = part(name)
    assert own in ARROWS, f"say in ARROWS what seqnorm.{own} may import"
    for target in ours(name):
        assert part(target) in ARROWS[own] | {own} or target in ABOVE, f"{name} imports {target}"


def test_the_top_imports_the_library_proper_alone() -> None:
    assert {part(target) for target in ours("seqnorm")} <= {
        "nn",
        "training",
        "weights",
        "export",
        "",
    }
    assert {target for target in ours("seqnorm") if part(target) == "training"} <= {
        "seqnorm.training",
        "seqnorm.training.prediction",
        "seqnorm.training.prediction.loaded",
    }, "of the type of seqnorm.load"
    run = set(imports("seqnorm", typing_too=False))
    assert not {
        t for t in run if t.startswith(("seqnorm.training", "seqnorm.weights", "seqnorm.export"))
    }
    for name in ("seqnorm.version", *ABOVE):
        assert ours(name) == set()


def wing(name: str) -> str:
    """Return the wing of a module of seqnorm.nn, or the room of one of seqnorm.training."""
    return name.split(".")[2]


def test_every_room_is_a_wing() -> None:
    assert {wing(name) for name in MODULES if name.startswith("seqnorm.nn.")} == set(WINGS)


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("seqnorm.nn.")])
def test_wings_import_those_below(name: str) -> None:
    for target in ours(name) - ABOVE:
        assert WINGS.index(wing(target)) <= WINGS.index(wing(name)), f"{name} imports {target}"


def test_every_part_of_training_is_a_room() -> None:
    inside = {name for name in MODULES if name.startswith("seqnorm.training.")}
    assert {wing(name) for name in inside} == set(ROOMS)


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("seqnorm.training.")])
def test_rooms_of_training_import_those_below(name: str) -> None:
    for target in ours(name):
        if target.startswith("seqnorm.training."):
            assert ROOMS.index(wing(target)) <= ROOMS.index(wing(name)), f"{name} imports {target}"


@pytest.mark.parametrize("name", CELL_FILES)
def test_a_cell_knows_no_other_cell(name: str) -> None:
    others = set(CELL_FILES) - {name}
    for target in ours(name) - ABOVE:
        assert target.removeprefix("seqnorm.nn.").startswith(OF_A_CELL), target
        assert target not in others


def words_of_code(name: str) -> Iterator[str]:
    """Yield names and string literals of a module, without the defaults of arguments.

    A default chooses one of the cells. Any other mention would be a list of cells, or a special
    case for one of them, to which every new cell had to be added.
    """
    defaults = [
        default
        for node in nodes(MODULES[name])
        if isinstance(node, ast.arguments)
        for default in (*node.defaults, *node.kw_defaults)
    ]
    for node in nodes(MODULES[name]):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in defaults:
            yield node.value
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.name for alias in node.names)


def test_a_new_cell_touches_one_file_and_the_export_lines() -> None:
    """No other module imports the file of a cell or has the cell's name as a literal.

    The exceptions are a backend, which names the cells for which it has kernels, the layers that
    ONNX has, the equations of the cells in C, and the tables of other libraries' weights.
    """
    cells = {name.lower() for name in seqnorm.nn.layers.cells.__all__}
    assert cells >= {"lstm", "lstmcell", "slstm"}
    for name in MODULES:
        backends = "seqnorm.nn.backends.cpu", "seqnorm.nn.backends.triton"
        if name.startswith(("seqnorm.nn.layers.cells", *backends)):
            continue
        if name == "seqnorm.nn.backends.onnx_layers":
            continue
        if name.startswith(("seqnorm.weights.sources.", "seqnorm.export.c.cells")):
            continue
        if name == "seqnorm.nn":
            continue  # an export line
        assert not ours(name) & set(CELL_FILES), name
        assert not {word for word in words_of_code(name) if word.lower() in cells}, name
    own = set(words_of_code("seqnorm.nn.layers.cells"))
    assert own >= set(seqnorm.nn.layers.cells.__all__), "and the walk would see one"


def test_no_cycles() -> None:
    """Imports for type checkers alone do not count, nor do the parent packages of a module."""
    graph = {
        name: {t for t in imports(name, typing_too=False) if t in MODULES and t != name}
        for name in MODULES
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above[above.index(name) :], name])
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())
    assert done == set(MODULES)


def test_there_is_one_time_loop() -> None:
    """Only ``scan`` loops over time: no other module of nn loops over rows split by step."""
    found = [
        name
        for name in MODULES
        if part(name) == "nn"
        for node in nodes(MODULES[name])
        if isinstance(node, ast.For) and "batch_sizes" in ast.unparse(node.iter)
    ]
    assert found == ["seqnorm.nn.recurrence.scan"]


def test_no_module_reads_the_environment_or_writes_at_import() -> None:
    for name, path in MODULES.items():
        for statement in ast.parse(path.read_text()).body:
            if isinstance(statement, ast.Expr):
                constant = isinstance(statement.value, ast.Constant)  # a docstring
                assert constant, f"{name} does something at import: {ast.unparse(statement)}"


def test_oracles_import_nothing_of_ours() -> None:
    trees = [
        ast.parse(path.read_text()) for path in (ROOT / "tests" / "support").glob("oracle*.py")
    ]
    assert len(trees) >= 2
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("seqnorm") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("seqnorm")


def test_train_script_only_starts_the_command_line() -> None:
    lines = [line for line in (ROOT / "train.py").read_text().splitlines() if line.strip()]
    assert len(lines) <= 8
    assert any("seqnorm.command" in line for line in lines)


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules, and modules of seqnorm, that a statement loads."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = process.stdout.split()
    return {n.split(".")[0] for n in names} | {n for n in names if n.startswith("seqnorm")}


def test_importing_seqnorm_loads_torch_alone() -> None:
    of_torch, of_seqnorm = loaded_by("import torch"), loaded_by("import seqnorm; seqnorm.LSTM")
    assert "torch" in of_seqnorm
    assert set(CELL_FILES) <= of_seqnorm
    assert not of_seqnorm & set(HEAVY)
    apart = ("seqnorm.training", "seqnorm.datasets", "seqnorm.weights")
    assert not {n for n in of_seqnorm if n.startswith(apart)}
    beyond = {n for n in of_seqnorm - of_torch if n.split(".")[0] != "seqnorm"}
    assert beyond <= sys.stdlib_module_names, (
        "nothing that is neither torch nor the standard library"
    )


def test_torch_is_loaded_when_a_name_is_read() -> None:
    assert "torch" not in loaded_by("import seqnorm; seqnorm.__version__")
    for statement in ("from seqnorm import LSTM", "from seqnorm import *", "import seqnorm.nn"):
        assert "torch" in loaded_by(statement)
    assert "seqnorm.testing" in loaded_by("import seqnorm; seqnorm.testing.check_step")
    assert "lightning" in loaded_by("import seqnorm; seqnorm.load")
    assert "seqnorm.weights.transfer" in loaded_by("import seqnorm; seqnorm.load_weights")
    assert "seqnorm.weights" not in loaded_by("from seqnorm import *; import seqnorm; dir(seqnorm)")
    assert "lightning" not in loaded_by("from seqnorm import *; import seqnorm; dir(seqnorm)")


def test_the_command_line_answers_before_it_loads_torch() -> None:
    for words in ([], ["--help"], ["--version"], ["fti"], ["fit", "--data.corpuss=r8"]):
        code = f"from seqnorm.command.main import main\ntry: main({words})\nexcept SystemExit: pass"
        assert not loaded_by(code) & {"torch", *HEAVY}, words


def test_importing_the_models_and_datasets_loads_no_lightning() -> None:
    loaded = loaded_by("import seqnorm.models, seqnorm.datasets")
    assert "seqnorm.models" in loaded
    assert not loaded & {"lightning", "matplotlib", "sklearn", "pandas", "rich", "tokenizers"}
