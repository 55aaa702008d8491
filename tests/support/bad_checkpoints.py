"""The bad checkpoints, and a part of the answer to each."""

from __future__ import annotations

import math

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
OPTIONS = "hyper_parameters", "norm_options"
DATA = ("datamodule_hyper_parameters",)
CORPUS = *DATA, "corpus"
PROCESS = '{"class_path": "subprocess.Popen", "init_args": {"args": "touch it_ran", "shell": true}}'
ESCAPED = '[{"class_path": "LambdaCallback", "init_args": {"on_test_start": "os\\u002eabort"}}]'
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
        "another JSON in place of its tokenizer",
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
        "a configuration that names a callback with code, which nothing reads",
        checkpoint(assign(*CALLBACKS, value=[CALLBACK]), "test"),
        "trained",
        works=True,
    ),
    Case(
        STORED,
        "the same, to resume",
        checkpoint(assign(*CALLBACKS, value=[CALLBACK, PROCESS]), "fit"),
        "trained",
        works=True,
    ),
    Case(
        STORED,
        "a configuration that names a file for results, which nothing reads",
        checkpoint(assign("config", value={"run": {"results": "../victim.csv"}}), "fit"),
        "trained",
        works=True,
    ),
    *(
        Case(
            STORED,
            f"a class among the options of its norm, to {use}",
            checkpoint(assign(*OPTIONS, value={"eps": {"class_path": "os.abort"}}), use),
            gets,
        )
        for use, gets in (("predict", "make no model"), ("test", "make no model"))
    ),
    Case(
        STORED,
        "a class within a text among the options of its norm",
        checkpoint(assign(*OPTIONS, value={"eps": PROCESS}), "test"),
        "make no model",
    ),
    Case(
        STORED,
        "a class in place of the options of its norm",
        checkpoint(assign(*OPTIONS, value={"class_path": "os.abort"}), "test"),
        "'class_path'",
    ),
    Case(
        STORED,
        "a file of values in place of the options of its norm",
        file_of_values,
        "make no model",
    ),
    Case(
        STORED,
        "a class in place of its cell",
        checkpoint(assign("hyper_parameters", "cell", value={"class_path": "os.abort"}), "test"),
        "make no model",
    ),
    Case(
        STORED,
        "a class in place of its corpus",
        checkpoint(assign(*CORPUS, value={"class_path": "os.abort"}), "test"),
        "is not an option of its data",
    ),
    Case(
        STORED,
        "a class within a text in place of its corpus",
        checkpoint(assign(*CORPUS, value=PROCESS), "test"),
        "is neither a corpus",
    ),
    Case(
        STORED,
        "a class within a text in place of a number of its data",
        checkpoint(assign(*DATA, "batch_size", value=PROCESS), "test"),
        "data.batch_size",
    ),
    Case(
        STORED,
        "a path of keys among the options of its data",
        checkpoint(assign(*DATA, "corpus.class_path", value="os.abort"), "test"),
        "'corpus.class_path', 'os.abort', is not an option of its data",
    ),
    Case(
        STORED,
        "an option of the trainer among those of its data",
        checkpoint(assign(*DATA, "trainer", value=ESCAPED), "test"),
        "'trainer', ",
    ),
    Case(
        STORED,
        "an unknown option of its data",
        checkpoint(assign(*DATA, "corpse", value=1), "test"),
        "'corpse', 1, is not an option of its data",
    ),
    Case(
        STORED,
        "a tensor in place of its corpus",
        checkpoint(assign(*CORPUS, value=torch.ones(1)), "test"),
        "is not an option of its data",
    ),
    Case(
        STORED,
        "a corpus of 2^40 values",
        checkpoint(assign(*CORPUS, value=doubled(40)), "test"),
        "is not an option of its data",
    ),
    Case(
        STORED,
        "a size that no memory has, to test",
        checkpoint(assign("hyper_parameters", "hidden_size", value=10**9), "test"),
        "make no model",
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
        "network.head.weight is not a plain tensor in memory",
    ),
    Case(
        STORED,
        "a sparse weight",
        checkpoint(assign("state_dict", WEIGHT, value=torch.eye(2).to_sparse())),
        "network.head.weight is not a plain tensor in memory",
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
        "a text in place of a length",
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
        "nonsense in place of the state inside an epoch",
        checkpoint(assign("inside_epoch", value=7), "fit"),
        "does not hold the state from which a run is resumed inside an epoch",
    ),
    Case(
        STORED,
        "of a language model, for the vocabulary of a classifier",
        command("fit", "--data.corpus=good.csv", f"--data.vocabulary={LANGUAGE_BEST}"),
        "is not of a classifier",
    ),
    Case(
        STORED,
        "a device that does not exist",
        command("predict", f"--ckpt_path={BEST}", "--device=gpu0"),
        "there is no device 'gpu0'",
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
