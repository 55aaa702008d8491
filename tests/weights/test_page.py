"""The page on weights of other libraries names every source, and the norms of each."""

from __future__ import annotations

import re

from pages import DOCS, read, rows

from seqnorm.weights import names_of_sources
from seqnorm.weights.layout import source_named

PAGE = read(DOCS / "weights_of_peers.md")
TABLE = rows(PAGE.split("## The sources")[1].split("## The tensors")[0])


def test_the_table_has_every_source() -> None:
    assert sorted(row[0].strip("`") for row in TABLE) == names_of_sources()
    assert all(row[1].startswith("`load_weights(") for row in TABLE)
    assert all(f'"{row[0].strip("`")}"' in row[1] for row in TABLE)


def test_the_norms_of_a_source() -> None:
    for row in TABLE:
        layouts = source_named(row[0].strip("`")).layouts
        named = {repr(n) if isinstance(n, str) else str(n) for n in (one.norm for one in layouts)}
        named = {name for name in named if not name.startswith("NormScheme")}
        assert set(re.findall(r"`([^`]+)`", row[2].replace('"', "'"))) == named, row[0]


def test_the_way_back_is_rounded_where_a_number_is_added() -> None:
    for row in TABLE:
        layouts = source_named(row[0].strip("`")).layouts
        shifted = any(part.shift for one in layouts for part in one.tensors.values())
        assert row[3] == ("rounded" if shifted else "lossless"), row[0]


def test_sources_with_lists_and_details_are_named() -> None:
    ordered = [name for name in names_of_sources() if source_named(name).ordered]
    assert ordered == ["keras", "tfa"]
    assert "for `keras` and `tfa`, the list" in PAGE
    for name in names_of_sources():
        assert source_named(name).title
