"""The bad checkpoints that are tried, and what the answer to each holds."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from bad_makers import (
    BEST,
    LANGUAGE_BEST,
    STORED,
    Case,
    Code,
    another_corpus,
    assign,
    checkpoint,
    command,
    damaged,
    deflated,
    doubled,
    exchanged,
    file_of_values,
    folder,
    not_where_it_was,
    other_classes,
    remove,
    renamed,
    smaller,
    tokenizer,
)

CALLBACK = {"class_path": "lightning.pytorch.callbacks.LambdaCallback"}
CALLBACKS = "config", "trainer", "callbacks"
STRATEGY = "config", "trainer", "strategy"
OPTIONS = "config", "model", "norm_options"
PROCESS = '{"class_path": "subprocess.Popen", "init_args": {"args": "touch it_ran", "shell": true}}'
ESCAPED = '[{"class_path": "LambdaCallback", "init_args": {"on_test_start": "os\\u002eabort"}}]'
FUNCTION = {
    "class_path": "seqnorm.training.ReestimateStatistics",
    "init_args": {"forward": "this.s"},
}
EPOCH = "loops", "fit_loop", "epoch_progress", "current"
WEIGHT = "network.head.weight"

CASES = [
    Case(STORED, "no such file", command("predict", "--ckpt_path=no.ckpt"), "'no.ckpt'"),
    Case(STORED, "a folder", folder("checkpoint"), "'a_folder', it is no file"),
    Case(STORED, "an empty file", damaged(lambda b: b""), "bad.ckpt"),
    Case(STORED, "a text", damaged(lambda b: b"some text"), "bad.ckpt"),
    Case(STORED, "the first half", damaged(lambda b: b[: len(b) // 2]), "bad.ckpt"),
    Case(STORED, "all but the last 100 bytes", damaged(lambda b: b[:-100]), "bad.ckpt"),
    Case(
        STORED,
        "inverted bytes in the middle",
        damaged(lambda b: b[:2000] + bytes(255 - x for x in b[2000:4000]) + b[4000:]),
        "bad.ckpt",
    ),
    Case(
        STORED,
        "code that would run when it is read",
        checkpoint(assign("hyper_parameters", "tokenizer", value=Code())),
        "which could run code",
    ),
    Case(
        STORED,
        "a whole module",
        checkpoint(assign("module", value=torch.nn.Linear(2, 2))),
        "holds torch.nn.modules.linear.Linear",
    ),
    Case(STORED, "a list", checkpoint(lambda stored: [1, 2]), "is not a checkpoint"),
    Case(STORED, "of another program", checkpoint(lambda s: {"weights": 1}), "is not a check"),
    Case(STORED, "without weights", checkpoint(remove("state_dict")), "has no weights"),
    Case(
        STORED,
        "a weight of another shape",
        checkpoint(assign("state_dict", WEIGHT, value=torch.zeros(2, 3))),
        "size mismatch for network.head.weight",
    ),
    Case(STORED, "a weight missing", checkpoint(remove("state_dict", WEIGHT)), "Missing"),
    Case(
        STORED,
        "a weight that is NaN",
        checkpoint(lambda s: s["state_dict"].update({WEIGHT: s["state_dict"][WEIGHT] * math.nan})),
        "network.head.weight holds NaN",
    ),
    Case(
        STORED,
        "a tokenizer of another vocabulary",
        checkpoint(lambda s: assign("hyper_parameters", "tokenizer", value=smaller(s))(s)),
        "size mismatch for network.embedding.weight",
    ),
    Case(
        STORED,
        "a tokenizer that is none",
        checkpoint(assign("hyper_parameters", "tokenizer", value="{}")),
        "not the JSON of a tokenizer",
    ),
    Case(
        STORED,
        "an unknown hyper-parameter",
        checkpoint(assign("hyper_parameters", "hiden_size", value=3)),
        "'hiden_size'",
    ),
    Case(
        STORED,
        "a size that no memory has",
        checkpoint(assign("hyper_parameters", "hidden_size", value=10**7)),
        "size mismatch",
    ),
    Case(
        STORED,
        "a configuration that names a callback with code",
        checkpoint(assign("config", "trainer", "callbacks", value=[CALLBACK]), "test"),
        "config.trainer.callbacks[0].class_path names the class",
    ),
    Case(
        STORED,
        "a configuration that names a class by its name alone",
        checkpoint(assign(*STRATEGY, value="os.abort"), "test"),
        "config.trainer.strategy names the class 'os.abort'",
    ),
    Case(
        STORED,
        "a configuration with a class among the options of the norm",
        checkpoint(
            assign("config", "model", "norm_options", value={"class_path": "os.abort"}), "test"
        ),
        "config.model.norm_options.class_path names the class",
    ),
    Case(
        STORED,
        "a configuration with a class within a text",
        checkpoint(assign(*OPTIONS, value={"eps": PROCESS}), "test"),
        "config.model.norm_options.eps is a text that holds values",
    ),
    Case(
        STORED,
        "a configuration with a class within what has the name of a path",
        checkpoint(assign(*OPTIONS, value={"name": PROCESS}), "test"),
        "config.model.norm_options.name is a text that holds values",
    ),
    Case(
        STORED,
        "a configuration with an escaped class within a text",
        checkpoint(assign(*CALLBACKS, value=ESCAPED), "test"),
        "config.trainer.callbacks is a text that holds values",
    ),
    Case(
        STORED,
        "a configuration with the name of a callback",
        checkpoint(assign(*CALLBACKS, value=["LambdaCallback"]), "test"),
        "config.trainer.callbacks[0] names the class 'LambdaCallback'",
    ),
    Case(
        STORED,
        "a configuration with a path of keys",
        checkpoint(assign("config", "trainer.callbacks", value=ESCAPED), "test"),
        "its configuration is not one of train.py fit",
    ),
    Case(
        STORED,
        "a configuration with a path of keys further in",
        checkpoint(assign(*OPTIONS, value={"eps.class_path": "os.abort"}), "test"),
        "has the key 'eps.class_path', not a name",
    ),
    Case(
        STORED,
        "a configuration with a callback that takes a function",
        checkpoint(assign(*CALLBACKS, value=[FUNCTION]), "test"),
        "names the class 'seqnorm.training.ReestimateStatistics'",
    ),
    Case(
        STORED,
        "a configuration with a class that takes a function among others",
        checkpoint(
            assign(
                *STRATEGY,
                value={
                    "class_path": "lightning.pytorch.strategies.DDPStrategy",
                    "init_args": {"timeout": "0:05:00", "ddp_comm_hook": "this.s"},
                },
            ),
            "test",
        ),
        "config.trainer.strategy.init_args.ddp_comm_hook is set",
    ),
    Case(
        STORED,
        "a logger that writes elsewhere",
        checkpoint(
            assign(
                *("config", "trainer", "logger"),
                value={
                    "class_path": "lightning.pytorch.loggers.CSVLogger",
                    "init_args": {"save_dir": "../victim"},
                },
            ),
            "test",
        ),
        "config.trainer.logger.init_args.save_dir is '../victim', outside of the current folder",
    ),
    Case(
        STORED,
        "a configuration with an ordered dictionary",
        checkpoint(lambda s: s["config"].update(run=OrderedDict(s["config"]["run"])), "test"),
        "config.run is a OrderedDict",
    ),
    Case(
        STORED,
        "a configuration that reads a file of values",
        file_of_values,
        "config.model.norm_options names a file, 'values.yaml'",
    ),
    Case(
        STORED,
        "a configuration of 2^40 values",
        checkpoint(assign("config", "data", "corpus", value=doubled(40)), "test"),
        "levels deep",
    ),
    Case(
        STORED,
        "a configuration of 160,000 values",
        checkpoint(assign("config", "data", "corpus", value=[["x"] * 400] * 400), "test"),
        "more than 100,000 values",
    ),
    Case(
        STORED,
        "results appended to a file of its choice",
        checkpoint(assign("config", "run", "results", value="../victim.csv"), "fit"),
        "its run appends to '../victim.csv', which a checkpoint may not choose",
    ),
    Case(
        STORED,
        "a configuration with a size that no memory has",
        checkpoint(assign("config", "model", "hidden_size", value=10**9), "test"),
        "there is not enough memory",
    ),
    Case(
        STORED,
        "a million layers",
        checkpoint(assign("hyper_parameters", "num_layers", value=10**6)),
        "1000000 layers, and",
    ),
    Case(
        STORED,
        "a weight without its elements",
        checkpoint(assign("state_dict", WEIGHT, value=torch.zeros(1).expand(10**13))),
        "network.head.weight is no plain tensor in memory",
    ),
    Case(
        STORED,
        "a sparse weight",
        checkpoint(assign("state_dict", WEIGHT, value=torch.eye(2).to_sparse())),
        "network.head.weight is no plain tensor in memory",
    ),
    Case(STORED, "compressed", deflated, "it is compressed"),
    Case(
        STORED,
        "a tokenizer that pads without end",
        checkpoint(
            tokenizer(
                lambda found: found.update(
                    padding={
                        "strategy": {"Fixed": 10**10},
                        "direction": "Right",
                        "pad_to_multiple_of": None,
                        "pad_id": 0,
                        "pad_type_id": 0,
                        "pad_token": "<pad>",
                    }
                )
            )
        ),
        "it has other steps",
    ),
    Case(
        STORED,
        "a tokenizer that blows texts up",
        checkpoint(
            tokenizer(
                lambda found: found["normalizer"]["normalizers"].extend(
                    [{"type": "Replace", "pattern": {"String": "o"}, "content": "o" * 99}] * 12
                )
            )
        ),
        "it has other steps",
    ),
    Case(
        STORED,
        "a tokenizer with a number beyond the embedding",
        checkpoint(tokenizer(lambda found: found["model"]["vocab"].update(corn=10**6))),
        "its tokens are not numbered from 0",
    ),
    Case(
        STORED,
        "a length that is none",
        checkpoint(assign("datamodule_hyper_parameters", "max_length", value="x")),
        "max_length is 'x', not a number of tokens",
    ),
    Case(
        STORED,
        "without its place in training",
        checkpoint(remove("global_step"), "fit"),
        "does not say where in training",
    ),
    Case(
        STORED,
        "written inside an epoch",
        checkpoint(assign(*EPOCH, "processed", value=0), "fit"),
        "was written inside epoch 0",
    ),
    Case(
        STORED,
        "nonsense to go on with inside an epoch",
        checkpoint(assign("inside_epoch", value=7), "fit"),
        "does not hold what a run goes on with inside an epoch",
    ),
    Case(
        STORED,
        "of a language model, for the vocabulary of a classifier",
        command("fit", "--data.corpus=good.csv", f"--data.vocabulary={LANGUAGE_BEST}"),
        "is not of a classifier",
    ),
    Case(
        STORED,
        "a device that there is not",
        command("predict", f"--ckpt_path={BEST}", "--device=gpu0"),
        "there is no device 'gpu0'",
    ),
    Case(
        STORED,
        "a configuration with an unknown key",
        checkpoint(assign("config", "data", "corpse", value=1), "test"),
        "corpse",
    ),
    Case(
        STORED,
        "a configuration that is a text",
        checkpoint(assign("config", value="model"), "test"),
        "its configuration is not one of train.py fit",
    ),
    Case(
        STORED,
        "a tensor in the configuration",
        checkpoint(assign("config", "data", "corpus", value=torch.ones(1)), "test"),
        "more than plain values",
    ),
    Case(
        STORED,
        "a class named with a tab and an escape",
        checkpoint(assign("hyper_parameters", "classes", value=["a\tb", "\x1b[2J"])),
        "class 0: the label 'a\\tb' holds the control character",
    ),
    Case(STORED, "resumed from elsewhere", not_where_it_was, "is not where a run left it"),
    Case(STORED, "resumed with another vocabulary", another_corpus, "size mismatch"),
    Case(
        STORED,
        "resumed with another word in its vocabulary",
        renamed("corn", "rice"),
        "of another vocabulary",
    ),
    Case(STORED, "resumed with another class", renamed(",a\n", ",z\n"), "of other classes"),
    Case(STORED, "resumed with labels exchanged", exchanged, "in the test, train, validation"),
    Case(STORED, "tested on other classes", other_classes, "not trained on: c"),
]
