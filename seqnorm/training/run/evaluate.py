"""``seqnorm validate`` and ``seqnorm test``: evaluate a checkpoint on a part of a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info

from ..checkpoints.checkpoint_file import Checkpoint, is_list_of_texts, is_scalar
from ..checkpoints.stored_model import stored_model
from ..data.base import PartsDataModule
from ..tasks.base import TaskModule
from .options import command_parser, parse
from .resume import config_of_run
from .task import Task
from .trainer import add_trainer, make_trainer
from .yaml_texts import dump, load


def evaluate(
    command: Literal["validate", "test"],
    task: Task,
    arguments: Sequence[str],
    checkpoint: Checkpoint | None,
) -> None:
    """Print the scores of a checkpoint.

    The model and its data are built from the checkpoint's hyper-parameters, which are plain values.
    If the checkpoint lies in a run's folder, the trainer has the options of the run's config.yaml.
    Options on the command line override both. A file of your own that the run was not trained on is
    evaluated as a whole.
    """
    part: Literal["test", "validation"] = "test" if command == "test" else "validation"
    words = f"Evaluate a checkpoint on the {part} part, or on a labelled file of your own: "
    words += f"seqnorm {command} FILE is short for seqnorm {command} --data.corpus FILE."
    parser = command_parser(command, words)
    parser.add_argument("--ckpt_path", type=str, required=True, help="The checkpoint.")
    add_trainer(parser)
    kept = {"seed", "vocabulary"}  # the order of training, and the checkpoint's own
    added = parser.add_class_arguments(task.data, "data", instantiate=False, skip=set(kept))
    before: list[str] = []
    stored: dict[str, Any] = {}
    if checkpoint is not None:
        names = [name.removeprefix("data.") for name in added]
        stored = _stored(checkpoint, names, kept)
        before = ["--config", dump(stored)]
    options = parse(parser, [*before, *arguments], checkpoint)
    new = options.data.corpus
    if is_new := stored and not _is_same(new, stored["data"].get("corpus")):
        before = ["--config", dump(_for_another(stored, new))]
        options = parse(parser, [*before, *arguments], checkpoint)
    elif stored:
        _check_parts(stored["data"], options.data)
    assert checkpoint is not None
    model = stored_model(task.module, checkpoint)
    data = task.data(**options.data)
    data.adopt(checkpoint)
    if is_new:
        data.evaluate_all(part)
    data.setup(command)
    made = parser.instantiate(options)
    trainer = make_trainer(made.trainer.as_dict(), model)
    stage: Literal["val", "test"] = "test" if command == "test" else "val"
    if evaluated(task, trainer, model, data, stage) is None:
        raise ValueError(f"there is nothing to show: trainer.limit_{stage}_batches is 0")


def _stored(checkpoint: Checkpoint, names: Sequence[str], left_out: set[str]) -> dict[str, Any]:
    """Return the options of the data in a checkpoint, and of the trainer in its run's folder."""
    for name, value in checkpoint.data.items():
        plain = is_scalar(value) or is_list_of_texts(value)
        if name not in {*names, *left_out} or not plain:
            shown = repr(value) if is_scalar(value) else f"a {type(value).__name__}"
            raise ValueError(
                f"{checkpoint.path}: {name!r:.50}, {shown:.50}, is not an option of its data"
            )
    found: dict[str, Any] = {
        "data": {name: value for name, value in checkpoint.data.items() if name not in left_out}
    }
    if (path := config_of_run(checkpoint)) is not None:
        config = load(path.read_text(encoding="utf-8"))
        if isinstance(config, dict) and "trainer" in config:
            found["trainer"] = config["trainer"]
    return found


def _check_parts(trained: dict[str, Any], options: Any) -> None:
    """Refuse other parts of the corpus of training, which would hold examples of its training part.

    Raises:
        ValueError: An option that divides the corpus differs.
    """
    of_folds = {"folds": None, "fold": None}  # checkpoints of earlier versions have none of them
    trained = {**of_folds, **trained}
    for name in ("test_fraction", "validation_fraction", "validation", "split_seed", *of_folds):
        if name in trained and options[name] != trained[name]:
            raise ValueError(
                f"data.{name} is {options[name]!r} and was {trained[name]!r} in training: a part "
                "that is divided otherwise holds examples that the model was trained on; leave "
                "the option out"
            )


def _is_same(corpus: str, trained: object) -> bool:
    """Return whether the corpus is the one that the run was trained on."""
    if not isinstance(trained, str) or corpus == trained:
        return True
    here, there = Path(corpus), Path(trained)
    return here.exists() and there.exists() and here.samefile(there)


def _for_another(stored: dict[str, Any], corpus: str) -> dict[str, Any]:
    """Return the stored options that apply to another corpus as well.

    The columns apply to your own files. The separator and the meaning of quotation marks apply to a
    file of the same ending.
    """
    trained = str(stored["data"].get("corpus"))
    left_out = {"test_fraction", "language", "folds", "fold"}
    if Path(corpus).suffix.lower() != Path(trained).suffix.lower():
        left_out |= {"delimiter", "quotes"}
    if not Path(corpus).exists():
        left_out |= {"text_column", "label_column", "drop_unlabelled", "delimiter", "quotes"}
    data = {name: value for name, value in stored["data"].items() if name not in left_out}
    return {**stored, "data": data}


def evaluated(
    task: Task,
    trainer: Trainer,
    model: TaskModule[Any, Any],
    data: PartsDataModule,
    stage: Literal["val", "test"],
) -> Any:
    """Evaluate a model, print its scores and return its metric; None if there are no batches."""
    evaluate = trainer.test if stage == "test" else trainer.validate
    logged = evaluate(model, datamodule=data, verbose=False)
    if not logged:
        rank_zero_info(f"trainer.limit_{stage}_batches is 0: nothing is evaluated.")
        return None
    (values,) = logged
    found = model.metric(stage).compute()
    if trainer.is_global_zero:
        title = f"{data.corpus.name} {'test' if stage == 'test' else 'validation'}"
        task.show(title, values[f"{stage}_loss"], found, model)
    return found
