"""The tokens of a language model: words or characters, and the end of a text.

Words are separated by white space, so that texts that are already divided into words, such as Penn
Treebank and WikiText, keep their words. Their <unk> is the unknown word; a word that looks like one
of the other two special tokens is unknown as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from seqnorm.extra import explained

from .tokenizing import PAD, UNK, Tokenizer, check_sizes, trainer

if TYPE_CHECKING:
    import tokenizers

Level = Literal["word", "character"]

EOS = "<eos>"
_CHUNK = 1_000


class LanguageTokenizer(Tokenizer):
    """A vocabulary in which token 2 ends a text (and also precedes its first token).

    Make one with `LanguageTokenizer.learn` or `LanguageTokenizer.from_json`.
    """

    eos_id = 2
    _kinds = get_args(Level)

    def __init__(self, backend: object) -> None:
        super().__init__(backend)  # type: ignore[arg-type]  # the library is imported where used
        if self._backend.token_to_id(EOS) != self.eos_id:
            raise ValueError(
                f"the tokenizer of a language model must have {EOS} as number {self.eos_id}"
            )

    @classmethod
    def learn(
        cls,
        texts: Iterable[str],
        *,
        level: Level = "character",
        vocab_size: int | None = None,
        min_frequency: int = 1,
        lowercase: bool = False,
    ) -> LanguageTokenizer:
        """Learn the vocabulary of texts.

        The vocabulary has at most ``vocab_size`` tokens, including three special ones, and no token
        seen fewer than ``min_frequency`` times. Texts are put into Unicode form NFC, and runs of
        white space become one space.

        Raises:
            ValueError: The level is unknown, or the sizes leave no room for tokens.
        """
        if level not in get_args(Level):
            raise ValueError(f"level must be one of {', '.join(get_args(Level))}, not {level!r}")
        check_sizes("vocab_size", vocab_size, 4, min_frequency)
        backend = cls._untrained(level, lowercase)
        from tokenizers import Tokenizer as Backend
        from tokenizers import models

        special = [PAD, UNK, EOS]
        backend.train_from_iterator(texts, trainer(special, vocab_size, min_frequency))
        numbers = backend.get_vocab()
        # A word spelt like a special token has taken the number of that token.
        words = [word for word in sorted(numbers, key=numbers.__getitem__) if word not in special]
        vocabulary = {token: number for number, token in enumerate([*special, *words])}
        found = Backend(models.WordLevel(vocabulary, unk_token=UNK))
        found.normalizer, found.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
        found.add_special_tokens(special)
        return cls(found)

    @staticmethod
    def _untrained(kind: Any, lowercase: bool) -> tokenizers.Tokenizer:
        """Return a tokenizer with its steps and without a vocabulary."""
        with explained("tokenising"):
            from tokenizers import Regex, models, normalizers, pre_tokenizers
            from tokenizers import Tokenizer as Backend

        backend = Backend(models.WordLevel(unk_token=UNK))
        steps = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " ")]
        if lowercase:
            steps.append(normalizers.Lowercase())
        if kind == "word":
            steps.append(normalizers.Replace(Regex(rf"(?<!\S)({PAD}|{EOS})(?!\S)"), UNK))
            backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        else:
            backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
        backend.normalizer = normalizers.Sequence(steps)
        return backend

    @property
    def level(self) -> Level:
        """The level of the tokens."""
        return "word" if "WhitespaceSplit" in str(self._backend.pre_tokenizer) else "character"

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``; the end of a text becomes the end of a line."""
        vocabulary = self.vocabulary
        found = ["\n" if token == self.eos_id else vocabulary[token] for token in tokens]
        return (" " if self.level == "word" else "").join(found)

    def characters(self) -> Tensor:
        """Return the number of characters (V,) of each token, to compute bits per character.

        A character counts as one, and so does the end of a text, as the end of a line. A word
        counts as its letters and the space before it, even if it is the first word of a text. An
        unknown character counts as one. An unknown word counts as zero characters, so that a small
        vocabulary is never an advantage.
        """
        word = self.level == "word"
        lengths = [len(token) + word for token in self.vocabulary]
        lengths[self.pad_id], lengths[self.eos_id] = 0, 1
        lengths[self.unk_id] = 0 if word else 1
        return torch.tensor(lengths, device="cpu")

    def characters_after(self, before: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
        """Return the characters (N,) of ``targets`` (N,), each after the token ``before`` (N,).

        A word includes the space before it, except the first one of a text.

        Args:
            counts: What ``characters`` returns.
        """
        found = counts[targets]
        if self.level == "word":
            words = (targets != self.eos_id) & (found > 0)
            found = found - (words & (before == self.eos_id)).to(found.dtype)
        return found

    def stream(self, texts: Sequence[str], *, ends: bool = True) -> Tensor:
        """Return the tokens (n,) int32 of all texts, one after the other, with an end after each.

        With ``ends=False`` the texts are pieces of one text, and no ends are added.
        """
        found = [torch.zeros(0, dtype=torch.int32, device="cpu")]
        tail = [self.eos_id] if ends else []
        for start in range(0, len(texts), _CHUNK):
            ids = self.encode(texts[start : start + _CHUNK])
            numbers = [i for text in ids for i in (*text, *tail)]
            found.append(torch.tensor(numbers, device="cpu").int())
        return torch.cat(found)

    def documents(self, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
        """Return each text between two ends, cut after ``max_length`` tokens."""
        whole = [[self.eos_id, *ids, self.eos_id] for ids in self.encode(texts)]
        return whole if max_length is None else [ids[: max_length + 1] for ids in whole]
