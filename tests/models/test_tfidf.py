"""The classifier of TF-IDF features, and the classifier of texts that has one beside it."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from seqnorm.models import TextClassifier, TfidfClassifier

TRAINING = [[2, 3, 3, 4], [2, 2, 5], [6], [2, 4, 6, 6, 6]]
DOCUMENTS = [[2, 2, 2, 4], [6, 1], [], [5, 3, 5, 2, 7]]
LENGTHS = torch.tensor([len(document) for document in DOCUMENTS])


def padded(value: int = 0) -> torch.Tensor:
    rows = [document + [value] * (5 - len(document)) for document in DOCUMENTS]
    return torch.tensor(rows)


def model(dtype: torch.dtype = torch.float64) -> TfidfClassifier:
    found = TfidfClassifier(8, 3, ignored=(0, 1)).to(dtype)
    found.set_frequencies(TRAINING)
    torch.nn.init.normal_(found.weight)
    return found


def features(document: list[int]) -> list[float]:
    """The definition, word by word."""
    x = []
    for token in range(8):
        times = document.count(token)
        holding = sum(token in other for other in TRAINING)
        idf = 1 + math.log((1 + len(TRAINING)) / (1 + holding))
        x.append((1 + math.log(times)) * idf if times and token > 1 else 0.0)
    norm = math.sqrt(sum(value * value for value in x))
    return [value / norm if norm else 0.0 for value in x]


def test_features_are_the_definition() -> None:
    wanted = torch.tensor([features(document) for document in DOCUMENTS], dtype=torch.float64)
    # ``features`` computes in float64 only from float64's idf.
    torch.testing.assert_close(model().features(padded(), LENGTHS), wanted, rtol=1e-12, atol=0)


def test_features_are_those_of_scikit_learn() -> None:
    texts = [[f"w{token}" for token in document] for document in TRAINING]
    peer = TfidfVectorizer(sublinear_tf=True, analyzer=lambda words: words).fit(texts)
    known = [[token for token in document if token < 7] for document in DOCUMENTS]
    wanted = peer.transform([[f"w{token}" for token in document] for document in known]).toarray()
    ours = model().features(padded(), LENGTHS)
    columns = [int(name[1:]) for name in peer.get_feature_names_out()]
    rows = [0, 1, 2]  # token 7 is in no training document, and scikit-learn does not know it
    torch.testing.assert_close(ours[rows][:, columns], torch.tensor(wanted[rows]))


def test_logits_and_gradients() -> None:
    one = model()
    cotangent = torch.randn(4, 3, dtype=torch.float64)
    logits = one(padded(), LENGTHS)
    logits.backward(cotangent)
    x = 5.0 * torch.tensor([features(document) for document in DOCUMENTS], dtype=torch.float64)
    torch.testing.assert_close(logits, x @ one.weight.t())
    torch.testing.assert_close(one.weight.grad, cotangent.t() @ x)
    assert torch.equal(logits[2], torch.zeros(3, dtype=torch.float64))  # an empty document


@pytest.mark.parametrize("value", [1, 7, -1, 10**9])
def test_padding_changes_nothing(value: int) -> None:
    one = model()
    assert torch.equal(one(padded(value), LENGTHS), one(padded(), LENGTHS))


def test_a_new_classifier_says_nothing() -> None:
    new = TfidfClassifier(8, 3)
    assert torch.equal(new(padded(), LENGTHS), torch.zeros(4, 3))
    new.set_frequencies([])
    assert torch.equal(new.idf, torch.ones(8))


def test_half_precision_counts_beyond_its_numbers() -> None:
    tokens = torch.full((1, 1000), 2)
    tokens[0, 0] = 3
    exact, half = model(), model(torch.bfloat16)
    half.load_state_dict(exact.state_dict())
    lengths = torch.tensor([1000])
    found = half.features(tokens, lengths)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.double(), exact.features(tokens, lengths), rtol=0.01, atol=1e-3
    )
    assert half(tokens, lengths).dtype == torch.bfloat16


def text_classifier(**options: object) -> TextClassifier:
    sizes: dict[str, object] = {"embedding_size": 5, "hidden_size": 8, "wide": True}
    made = TextClassifier(8, 3, **{**sizes, **options})  # type: ignore[arg-type]  # by name
    assert made.wide is not None
    made.wide.set_frequencies(TRAINING)
    torch.nn.init.normal_(made.wide.weight)
    return made.eval()


def test_logits_are_the_sum_of_both_parts() -> None:
    both = text_classifier()
    deep, wide = both.parts(padded(), LENGTHS)
    assert both.wide is not None
    assert wide is not None
    assert torch.equal(wide, both.wide(padded(), LENGTHS))
    assert torch.equal(both(padded(), LENGTHS), deep + wide)
    both.wide = None
    assert torch.equal(both(padded(), LENGTHS), deep)
    assert both.parts(padded(), LENGTHS)[1] is None


def test_the_recurrent_layers_read_the_beginning_and_tfidf_the_whole() -> None:
    both, other = text_classifier(read=2), padded()
    other[3, 2:] = torch.tensor([2, 2, 4])
    deep, wide = both.parts(padded(), LENGTHS)
    deep_other, wide_other = both.parts(other, LENGTHS)
    assert wide is not None
    assert wide_other is not None
    assert torch.equal(deep, deep_other)
    assert not torch.equal(wide[3], wide_other[3])
    whole = text_classifier(read=None)
    whole.load_state_dict(both.state_dict())
    cut = whole.parts(padded()[:, :2], LENGTHS.clamp(max=2))[0]
    torch.testing.assert_close(deep, cut)


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("read", [None, 3])
def test_in_chunks(norm: str, bidirectional: bool, read: int | None) -> None:
    both = text_classifier(norm=norm, bidirectional=bidirectional, read=read)
    wanted = both(padded(), LENGTHS)
    torch.testing.assert_close(both.in_chunks(padded(), LENGTHS, 2), wanted)


def test_training_reads_random_windows() -> None:
    both = text_classifier(crop=3, read=8)
    tokens, lengths = torch.arange(10).expand(500, 10), torch.full((500,), 10)
    assert both._window(tokens, lengths)[0].shape == (500, 8)
    both.train()
    windows, read = both._window(tokens, lengths)
    assert windows.shape == (500, 3)
    assert torch.equal(read, torch.full((500,), 3))
    assert torch.equal(windows, windows[:, :1] + torch.arange(3))
    assert set(windows[:, 0].tolist()) == set(range(6))  # of the first 8 tokens
    short, read = both._window(tokens, torch.full((500,), 2))
    assert torch.equal(short[:, 0], torch.zeros(500, dtype=torch.int64))
    assert torch.equal(read, torch.full((500,), 2))


@pytest.mark.parametrize("name", ["read", "crop"])
def test_windows_have_a_token(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1 token, or null for all"):
        text_classifier(**{name: 0})
