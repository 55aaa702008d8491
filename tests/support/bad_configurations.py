"""The bad configurations and search spaces, and a part of the answer to each."""

from __future__ import annotations

from bad_makers import (
    CONFIG,
    GOOD,
    SWEEP,
    Case,
    command,
    configured,
    fit,
    folder,
    sweep,
)

LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 30)
)

CASES = [
    Case(CONFIG, "an unknown key", configured("model: {hiden_size: 3}"), "hiden_size"),
    Case(
        CONFIG,
        "a word for a number",
        configured("model: {hidden_size: many}"),
        "--model.hidden_size cannot be 'many'; write an integer",
    ),
    Case(
        CONFIG,
        "a misspelt monitor",
        configured("run: {monitor: val_acuracy}"),
        "(did you mean val_accuracy?)",
    ),
    Case(
        CONFIG,
        "a misspelt logger",
        configured("run: {loggers: [tensorboard, wandbd]}"),
        "(did you mean wandb?)",
    ),
    Case(CONFIG, "an unknown norm", configured("model: {norm: layr}"), "mean 'layer'"),
    Case(CONFIG, "no YAML", configured("model: {{{"), "config.yaml"),
    Case(CONFIG, "bytes", configured(b"\xff\xfe\x00"), "config"),
    Case(CONFIG, "a folder", folder("config"), "a_folder"),
    Case(
        CONFIG,
        "YAML that would run code",
        configured("model: !!python/object/apply:os.system ['touch it_ran']"),
        "config.yaml",
    ),
    Case(CONFIG, "a YAML bomb", configured(LAUGHS), "config.yaml"),
    Case(CONFIG, "a YAML bomb, by -c", configured(LAUGHS, "-c=config.yaml"), "config.yaml"),
    Case(
        CONFIG,
        "a YAML bomb for a part",
        configured(LAUGHS, "--trainer=config.yaml"),
        "config.yaml",
    ),
    Case(
        CONFIG,
        "a learning rate beyond all",
        fit("good.csv", GOOD, "--model.lr=1e39"),
        "lr must lie between 0 and",
    ),
    Case(CONFIG, "one fold", fit("good.csv", GOOD, "--folds=1"), "at least 2"),
    Case(
        CONFIG,
        "a fold without the number of folds",
        fit("good.csv", GOOD, "--data.fold=1"),
        "needs data.folds",
    ),
    Case(
        CONFIG,
        "the number of folds without a fold",
        fit("good.csv", GOOD, "--data.folds=3"),
        "needs data.fold,",
    ),
    Case(
        CONFIG,
        "all folds and one of them",
        fit("good.csv", GOOD, "--folds=3", "--data.fold=1"),
        "trains all folds",
    ),
    Case(
        CONFIG,
        "folds and the search for a learning rate",
        fit("good.csv", GOOD, "--folds=3", "--find_lr=true"),
        "there would be no test",
    ),
    Case(
        CONFIG,
        "folds of a language model",
        command("fit", "--task=language", "--data.corpus=texts", "--folds=3"),
        "a language model is tested",
    ),
    Case(
        CONFIG,
        "an embedding that no memory holds",
        fit("good.csv", GOOD, "--model.embedding_size=1000000000000"),
        "there is not enough memory",
    ),
    Case(
        CONFIG,
        "a run that is called as a number",
        fit("good.csv", GOOD, "--run.name=7795e10"),
        "trained",
        works=True,
    ),
    Case(CONFIG, "a run without a name", fit("good.csv", GOOD, "--run.name="), "run.name is empty"),
    Case(
        CONFIG,
        "none for null",
        fit("good.csv", GOOD, "--model.norm=none", "--data.vocab_size=None"),
        "trained",
        works=True,
    ),
    Case(
        CONFIG,
        "no validation",
        fit("good.csv", GOOD, "--data.test_fraction=0.2", "--trainer.limit_val_batches=0"),
        "trained",
        works=True,
    ),
    Case(
        CONFIG,
        "a function in place of a class",
        configured("trainer: {callbacks: [{class_path: os.system}]}"),
        "callbacks",
    ),
    Case(SWEEP, "a misspelt option", sweep("model.nrom: [layer]"), "mean --model.norm?"),
    Case(SWEEP, "a space that is not there", command("sweep", "--space=texts"), "language"),
    Case(
        SWEEP,
        "a space as a configuration",
        command("fit", "good.csv", "--config=spaces/language"),
        "seqnorm sweep --space language",
    ),
    Case(SWEEP, "a list as a space", sweep("[model.norm]"), "is a mapping of options"),
    Case(SWEEP, "one value", sweep("model.lr: 0.1"), "give a list of choices"),
    Case(SWEEP, "a word for a number", sweep("model.hidden_size: [8, many]"), "'many'"),
    Case(SWEEP, "a range without an end", sweep("model.lr: {low: 1}"), "needs low and high"),
    Case(SWEEP, "a range of names", sweep("model.norm: {low: 1, high: 2}"), "no range"),
    Case(
        SWEEP,
        "an unknown norm in every trial",
        sweep("model.lr: [0.1]", "--model.norm=layr"),
        "mean 'layer'",
    ),
    Case(
        SWEEP,
        "a choice of the validation part",
        sweep("data.split_seed: [1, 2]"),
        "validated on different examples",
    ),
    Case(
        SWEEP,
        "YAML that would run code",
        sweep("model.lr: !!python/object/apply:os.system ['touch it_ran']"),
        "not plain YAML",
    ),
    Case(SWEEP, "a YAML bomb", sweep(LAUGHS), "space.yaml"),
    Case(
        SWEEP,
        "a folder without a sweep",
        command("sweep", "--resume=runs/good"),
        "give the folder that a sweep named",
    ),
    Case(SWEEP, "a good one", sweep("model.norm: [layer, none]"), "trained", works=True),
]
