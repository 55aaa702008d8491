"""Encoding of texts as lists of token numbers, with Hugging Face `tokenizers`.

Train on the training part alone: words seen only in validation or test are unknown words. All three
kinds put the text into Unicode form NFC, convert it to lower case on request, and replace runs of
white space by one space.

- "word": runs of letters and digits, and runs of punctuation. Languages written without spaces,
  such as Chinese, have no such words.
- "character": one token for each character, including the space.
- "bpe": byte-pair encoding of bytes (Sennrich et al., ACL 2016; Radford et al., 2019). It can
  encode every text, so no token is unknown.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from seqnorm.extra import explained

if TYPE_CHECKING:
    import tokenizers

Kind = Literal["word", "character", "bpe"]
_T = TypeVar("_T", bound="Tokenizer")

PAD, UNK = "<pad>", "<unk>"
DEFAULT_BPE_VOCABULARY = 8_000
_BYTES = 256
_NO_LIMIT = 2**31 - 1
_CHUNK = 1_000
# Languages written without spaces between words.
_WITHOUT_SPACES = {"zh", "ja", "th", "lo", "km", "my", "bo"}
# Thai, Lao, Tibetan, Burmese, Khmer, kana and Han.
_SCRIPTS_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
)


def default_kind(language: str) -> Kind:
    """Return the default kind of tokens: characters for languages written without spaces."""
    return "character" if language.split("-")[0].lower() in _WITHOUT_SPACES else "word"


class Tokenizer:
    """A trained vocabulary: token 0 is padding, and token 1 stands for everything unknown.

    Make one with `Tokenizer.train` or `Tokenizer.from_json`. Markup in a text that looks like these
    two tokens is treated as any other text.
    """

    pad_id = 0
    unk_id = 1
    _kinds: tuple[str, ...] = get_args(Kind)

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        if [backend.token_to_id(PAD), backend.token_to_id(UNK)] != [self.pad_id, self.unk_id]:
            raise ValueError(
                f"the tokenizer must have {PAD} as number {self.pad_id} and {UNK} as {self.unk_id}"
            )
        backend.encode_special_tokens = True
        self._backend = backend

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        kind: Kind = "word",
        vocab_size: int | None = None,
        min_frequency: int = 1,
        lowercase: bool = True,
    ) -> Tokenizer:
        """Train a vocabulary of at most `vocab_size` tokens, including the two special ones.

        Tokens (for "bpe": pairs) seen fewer than `min_frequency` times are left out. By default
        `vocab_size` has no limit, or is 8,000 for "bpe". The same texts give the same vocabulary.

        Raises ValueError for an unknown kind and for sizes that leave no room for tokens. Warns if
        `kind` is "word" and the texts are mostly in a script without spaces.
        """
        if kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, not {kind!r}")
        smallest = 2 + (_BYTES if kind == "bpe" else 1)
        check_sizes(f"vocab_size for {kind!r}", vocab_size, smallest, min_frequency)
        texts = iter(texts)
        first = list(islice(texts, _CHUNK))
        if kind == "word" and _without_spaces(first):
            warnings.warn(
                "these texts are mostly written without spaces, so a 'word' would be a whole "
                "phrase: use kind='character' or kind='bpe'",
                stacklevel=2,
            )
        backend = cls._untrained(kind, lowercase)
        learning = trainer([PAD, UNK], vocab_size, min_frequency, pairs=kind == "bpe")
        backend.train_from_iterator(chain(first, texts), learning)
        return cls(backend)

    def encode(self, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
        """Return the token numbers of each text, cut after `max_length` tokens; possibly empty."""
        check_texts(texts, max_length)
        encoded: list[list[int]] = []
        # Encode in pieces, because the library keeps far more than the numbers during a call.
        for start in range(0, len(texts), _CHUNK):
            piece = list(texts[start : start + _CHUNK])
            encodings = self._backend.encode_batch_fast(piece, add_special_tokens=False)
            encoded += [encoding.ids[:max_length] for encoding in encodings]
        return encoded

    @property
    def vocabulary(self) -> list[str]:
        """The tokens in the order of their numbers."""
        numbers = self._backend.get_vocab()
        return sorted(numbers, key=numbers.__getitem__)

    def __len__(self) -> int:
        return self._backend.get_vocab_size()

    def to_json(self) -> str:
        """Return the whole tokenizer in the library's own format."""
        return self._backend.to_str()

    @classmethod
    def from_json(cls: type[_T], text: str) -> _T:
        """Return the tokenizer that `to_json` wrote; raise ValueError for anything else."""
        with explained("tokenising"):
            import tokenizers
        try:
            backend = tokenizers.Tokenizer.from_str(text)
        except Exception as error:
            # The library raises bare `Exception`.
            raise ValueError(f"not the JSON of a tokenizer: {error}") from error
        # Other steps could make a text huge, or end the process.
        known = [cls._untrained(kind, case) for kind in cls._kinds for case in (False, True)]
        if _steps(backend) not in map(_steps, known):
            raise ValueError("not the JSON of a tokenizer of seqnorm: it has other steps")
        if sorted(backend.get_vocab().values()) != list(range(backend.get_vocab_size())):
            raise ValueError("not the JSON of a tokenizer: its tokens are not numbered from 0")
        return cls(backend)

    @staticmethod
    def _untrained(kind: Any, lowercase: bool) -> tokenizers.Tokenizer:
        """Return a tokenizer with its steps and without a vocabulary."""
        with explained("tokenising"):
            from tokenizers import Regex, models, normalizers, pre_tokenizers
            from tokenizers import Tokenizer as Backend

        backend = Backend(models.BPE() if kind == "bpe" else models.WordLevel(unk_token=UNK))
        if kind == "bpe":
            backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        elif kind == "word":
            backend.pre_tokenizer = pre_tokenizers.Whitespace()
        else:
            backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
        steps = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
        if lowercase:
            steps.append(normalizers.Lowercase())
        backend.normalizer = normalizers.Sequence(steps)
        return backend

    def __reduce__(self) -> tuple[object, tuple[str]]:
        # Pickling the library's object would lose `encode_special_tokens`.
        return type(self).from_json, (self.to_json(),)


def check_sizes(name: str, vocab_size: int | None, smallest: int, min_frequency: int) -> None:
    """Raise ValueError for a vocabulary, called `name`, with too few tokens or no frequency."""
    if vocab_size is not None and vocab_size < smallest:
        raise ValueError(f"{name} must be at least {smallest}: {vocab_size}")
    if min_frequency < 1:
        raise ValueError(f"min_frequency must be at least 1, not {min_frequency}")


def check_texts(texts: Sequence[str], max_length: int | None) -> None:
    """Raise TypeError for a single text, and ValueError for a length below 1."""
    if isinstance(texts, str):
        raise TypeError("texts must be a sequence of strings; write [text] for a single one")
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length must be at least 1 or None, not {max_length}")


def _steps(backend: tokenizers.Tokenizer) -> dict[str, Any]:
    """Return the description of a tokenizer without its vocabulary."""
    found: dict[str, Any] = json.loads(backend.to_str())
    learnt = ("vocab", "merges")
    model = {key: value for key, value in found["model"].items() if key not in learnt}
    return {**found, "model": model, "added_tokens": None}


def trainer(
    special: list[str], vocab_size: int | None, min_frequency: int, *, pairs: bool = False
) -> tokenizers.trainers.Trainer:
    """Return a trainer of whole tokens, or of pairs (byte-pair encoding)."""
    from tokenizers import pre_tokenizers, trainers

    limit = DEFAULT_BPE_VOCABULARY if pairs else _NO_LIMIT
    options: dict[str, Any] = {
        "vocab_size": limit if vocab_size is None else vocab_size,
        "min_frequency": min_frequency,
        "special_tokens": special,
        "show_progress": False,
    }
    if pairs:
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        return trainers.BpeTrainer(initial_alphabet=alphabet, **options)
    return trainers.WordLevelTrainer(**options)


def _without_spaces(texts: Iterable[str]) -> bool:
    characters = "".join("".join(text.split()) for text in texts)
    return 2 * len(_SCRIPTS_WITHOUT_SPACES.findall(characters)) > len(characters)
