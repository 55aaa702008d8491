"""ONNX files of ``seqnorm export``, read by onnxruntime."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqnorm.extra import explained

from ..checkpoints.checkpoint_file import FORMAT_KEY
from ..errors import line_of

HINT = "pip install 'seqnorm[train,onnx]'"
# The format of what such a file says about itself, under the key of a checkpoint's format.
FORMAT = 1
# The options of the data that prediction reads.
DATA = frozenset(
    (
        *("corpus", "text_column", "delimiter", "quotes", "id_column", "time_column"),
        *("max_length", "mode", "reset_at_documents", "window"),
    )
)
_TASKS = ("classification", "language", "series_classification", "series_regression")


class OnnxFile:
    """A model of ``seqnorm export``, read and checked once.

    Attributes:
        path: The file.
        task: The task of the model.
        data: The options of the training data that prediction reads.
        inputs: The shape of each input by its name; a name in place of a size means any size.

    Raises:
        ValueError: The file does not exist, or is no such file.
        ModuleNotFoundError: The package ``onnxruntime`` is missing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        if not Path(path).is_file():
            raise ValueError(
                f"there is no ONNX file {self.path!r}: seqnorm export --to model.onnx writes one"
            )
        with explained("seqnorm predict --onnx", HINT):
            import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors alone
        try:
            self._session = onnxruntime.InferenceSession(
                self.path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the library has a class for each kind
            raise ValueError(
                f"{self.path!r} cannot be read as an ONNX file: {line_of(error)}"
            ) from error
        self._stated: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        if FORMAT_KEY not in self._stated:
            raise ValueError(
                f"{self.path!r} is an ONNX file, but not one of seqnorm export: it does not state "
                "its task"
            )
        if self._stated[FORMAT_KEY] != str(FORMAT):
            raise ValueError(
                f"{self.path!r} has format {self._stated[FORMAT_KEY]!r:.20}, and this seqnorm "
                f"reads {FORMAT}: use a newer version"
            )
        self.task = self._stated.get("task", "")
        if self.task not in _TASKS:
            raise ValueError(f"{self.path!r} states the unknown task {self.task!r:.50}")
        data = self.stated("data", dict)
        self.data: Mapping[str, Any] = {name: data[name] for name in DATA if name in data}
        self.inputs = {one.name: list(one.shape) for one in self._session.get_inputs()}

    def stated(self, name: str, kind: type | None = None) -> Any:
        """Return what the file says about itself, a value as JSON.

        Raises:
            ValueError: It says nothing, or something of another kind.
        """
        try:
            found = json.loads(self._stated[name])
        except (KeyError, ValueError, RecursionError):
            found = None
        if not isinstance(found, kind or object) or found is None:
            raise ValueError(f"{self.path!r} does not state its {name}, as seqnorm export does")
        return found

    def text(self, name: str) -> str:
        """Return what the file says about itself, as it stands there."""
        return self._stated.get(name, "")

    def names(self, name: str) -> tuple[str, ...]:
        """Return a list of names out of what the file says about itself."""
        found = self.stated(name, list)
        if not found or not all(isinstance(each, str) for each in found):
            raise ValueError(f"{self.path!r}: its {name} are not a list of names")
        return tuple(found)

    def tokenizer(self) -> str:
        """Return the tokenizer as JSON, which stands in a file beside this one.

        Raises:
            ValueError: There is no such file, or it belongs to another model.
        """
        path = tokenizer_path(self.path)
        if not path.is_file():
            raise ValueError(
                f"there is no tokenizer {str(path)!r}, which seqnorm export wrote beside the "
                "model: keep both files in one folder, under one name"
            )
        content = path.read_bytes()
        if checksum(content) != self.text("tokenizer_sha256"):
            raise ValueError(
                f"{str(path)!r} is the tokenizer of another model: keep the files of one export "
                "together"
            )
        return content.decode()

    def run(self, **inputs: Tensor) -> list[Tensor]:
        """Return the outputs for inputs by their names."""
        found = self._session.run(None, {name: each.numpy() for name, each in inputs.items()})
        return [torch.from_numpy(each) for each in found]


def tokenizer_path(path: str | Path) -> Path:
    """Return the path of a model's tokenizer: model.tokenizer.json beside model.onnx."""
    return Path(path).with_suffix(".tokenizer.json")


def checksum(content: bytes) -> str:
    """Return the SHA-256 of the content of a file."""
    return hashlib.sha256(content).hexdigest()
