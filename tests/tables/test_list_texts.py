"""Text lists: multi-select answers are split whatever joins them, and texts of one answer are not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.tables.list_texts import (
    ARRAY,
    LIST,
    QUOTED_LIST,
    are_unread_lists,
    find_separator,
    spellings,
    split_texts,
    unescape,
)

RNG = np.random.default_rng(5)
TOOLS = ["Python", "R", "SQL", "Scala", "Julia", "Go"]
ANSWERS = [sorted(map(str, RNG.choice(TOOLS, RNG.integers(1, 4), replace=False))) for _ in range(2000)]
FORMS: dict[str, tuple[str, Callable[[list[str]], str]]] = {
    "JSON": (QUOTED_LIST, json.dumps),
    "JSON without blanks": (QUOTED_LIST, lambda labels: json.dumps(labels, separators=(",", ":"))),
    "Python": (QUOTED_LIST, str),
    "Python tuples": (QUOTED_LIST, lambda labels: str(tuple(labels))),
    "plain lists": (LIST, lambda labels: f"[{', '.join(labels)}]"),
    "PostgreSQL arrays": (ARRAY, lambda labels: f"{{{','.join(labels)}}}"),
    "Python sets": (QUOTED_LIST, lambda labels: str(dict.fromkeys(labels)).replace(": None", "")),
    "frozen sets": (QUOTED_LIST, lambda labels: f"frozenset({{{', '.join(map(repr, labels))}}})"),
    "lines": ("\n", "\n".join),
    "lines of Windows": ("\n", "\r\n".join),
    "SharePoint": (";#", ";#".join),
    "semicolons and lines": (";", ";\n".join),
    "numpy arrays": (QUOTED_LIST, lambda labels: f"[{' '.join(map(repr, labels))}]"),
    "double colons": ("::", "::".join),
    "plus signs": ("+", " + ".join),
    "ampersands": ("&", " & ".join),
    "commas": (",", ",".join),
    "bars": ("|", "|".join),
    "semicolons": (";", ";".join),
    "slashes": ("/", "/".join),
    "blanks": (" ", " ".join),
}
PROSE = [
    *("the", "food", "was", "good", "but", "service", "slow", "we", "liked", "room"),
    *("and", "staff", "very", "much", "it", "rained", "all", "day"),
]
SINGLE = {
    "names": lambda: f"{RNG.choice(list('ABCDEFGH'))}son, {RNG.choice(['Ann', 'Bob', 'Cid', 'Dee', 'Eve'])}",
    "first and last names": lambda: f"{RNG.choice(['Ann', 'Bob', 'Cid', 'Dee'])} {RNG.choice(list('ABCDEFGH'))}son",
    "addresses": lambda: f"{RNG.integers(1, 200)} {RNG.choice(PROSE)} Street, {RNG.choice(['Bonn', 'Rome'])}",
    "addresses of two lines": lambda: f"{RNG.integers(1, 200)} Main Street\n{RNG.choice(['Bonn', 'Rome', 'Pisa'])}",
    "prose of lines": lambda: "\n".join(" ".join(RNG.choice(PROSE, 4)) for _ in range(RNG.integers(1, 4))),
    "places": lambda: str(RNG.choice(["Rome, Italy", "Bonn, Germany", "Pisa, Italy", "Ulm, Germany"])),
    "answers with commas": lambda: str(RNG.choice(["Yes, both", "No", "Yes, full-time", "I prefer not to say"])),
    "grades": lambda: str(RNG.choice(["very good", "good", "bad", "very bad"])),
    "prose": lambda: " ".join(RNG.choice(PROSE, RNG.integers(4, 12))),
    "prose with commas": lambda: ", ".join(" ".join(RNG.choice(PROSE, 4)) for _ in range(RNG.integers(1, 4))),
    "intervals": lambda: str(RNG.choice(["(0, 10]", "(10, 20]", "(20, 30]", "(30, 40]"])),
    "coordinates": lambda: f"({RNG.random():.3f}, {RNG.random():.3f})",
    "objects": lambda: json.dumps({"a": int(RNG.integers(4)), "b": int(RNG.integers(4))}),
    "job titles": lambda: f"{RNG.choice(['sales', 'office', 'shop'])} {RNG.choice(['clerk', 'manager', 'aide'])}",
    "words": lambda: str(RNG.choice(TOOLS)),
    "paths": lambda: f"home/{RNG.choice(TOOLS)}/{RNG.choice(PROSE)}",
    "negative amounts": lambda: f"({RNG.integers(1, 30)})",
}


def separator_of(texts: list[str], *, forced: bool = False) -> str | None:
    counts = Counter(texts)
    return find_separator(pa.array(list(counts)), np.array(list(counts.values())), forced=forced)


@pytest.mark.parametrize("form", FORMS)
def test_multi_select_answers_are_split_into_their_labels(form: str) -> None:
    separator, write = FORMS[form]
    texts = [write(labels) for labels in ANSWERS]
    assert separator_of(texts) == separator_of(texts, forced=True) == separator
    assert split_texts(pa.array(texts), separator).to_pylist() == ANSWERS
    encoded = pa.array([*texts, None]).dictionary_encode()
    assert split_texts(encoded, separator).to_pylist() == [*ANSWERS, None]


@pytest.mark.parametrize("kind", SINGLE)
@pytest.mark.parametrize("n_rows", [300, 5000])
def test_texts_of_one_answer_are_not_split(kind: str, n_rows: int) -> None:
    assert separator_of([SINGLE[kind]() for _ in range(n_rows)]) is None


CITIES = ["New York", "Oslo", "Rio de Janeiro", "Rome", 'The "Hague"', "Paris, Texas"]
VISITS = [[CITIES[TOOLS.index(label)] for label in labels] for labels in ANSWERS]


def write_array(labels: list[str | None]) -> str:
    """Write an array as PostgreSQL does."""
    written = ["NULL" if label is None else label.replace("\\", "\\\\").replace('"', '\\"') for label in labels]
    is_bare = [
        label is None or (label.upper() not in ("", "NULL") and not set(label) & set(' ,{}"\\')) for label in labels
    ]
    quoted = [text if bare else f'"{text}"' for text, bare in zip(written, is_bare, strict=True)]
    return f"{{{','.join(quoted)}}}"


NULLS: dict[str, tuple[str, Callable[[list[str | None]], str]]] = {
    "PostgreSQL": (ARRAY, write_array),
    "JSON": (QUOTED_LIST, json.dumps),
    "JSON without blanks": (QUOTED_LIST, lambda labels: json.dumps(labels, separators=(",", ":"))),
    "Python": (QUOTED_LIST, str),
    "Python tuples": (QUOTED_LIST, lambda labels: str(tuple(labels))),
    "NaN of Python": (QUOTED_LIST, lambda labels: str([float("nan") if label is None else label for label in labels])),
    "numpy": (QUOTED_LIST, lambda labels: f"[{' '.join(map(repr, labels))}]"),
}


@pytest.mark.parametrize("form", NULLS)
def test_nulls_of_lists_are_no_labels(form: str) -> None:
    separator, write = NULLS[form]
    labels = VISITS if form == "PostgreSQL" else ANSWERS
    rows = [[None] * (i % 3 == 1) + x[:1] + [None] * (i % 5) + x[1:] + [None] * (i % 2) for i, x in enumerate(labels)]
    texts = [write(row) for row in [*rows, [None], [None, None], []]]
    assert separator_of(texts) == separator_of(texts, forced=True) == separator
    names = [
        [unescape(label, separator) for label in row] for row in split_texts(pa.array(texts), separator).to_pylist()
    ]
    assert names == [*labels, [""], [""], [""]]


def test_nulls_of_plain_lists_are_no_labels() -> None:
    texts = pa.array(["[Drama, NULL]", "[NULL]", "[None, a, NULL, NULL, b]", "[Nullable, b None]"])
    assert split_texts(texts, LIST).to_pylist() == [["Drama"], [""], ["a", "b"], ["Nullable", "b None"]]


def test_words_of_nulls_in_quotation_marks_are_labels() -> None:
    assert split_texts(pa.array(["['None', None]", "['x, None, y']"]), QUOTED_LIST).to_pylist() == [
        ["None"],
        ["x, None, y"],
    ]
    assert split_texts(pa.array(['{NULL,"NULL",Nullable,"x,}",None,null}', "{ a , b }"]), ARRAY).to_pylist() == [
        ["NULL", "Nullable", "x,}", "None"],
        ["a", "b"],
    ]


@given(st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=5))))
def test_arrays_are_read_back(labels: list[str | None]) -> None:
    row = [label if label is None or label.strip() == label else None for label in labels]
    (found,) = split_texts(pa.array([write_array(row)]), ARRAY).to_pylist()
    assert [unescape(label, ARRAY) for label in found] == ([label for label in row if label] or [""])
    for label in filter(None, row):
        assert all(unescape(text, ARRAY) == label for text in spellings(label, ARRAY))


UNREAD: dict[str, Callable[[list[str]], str]] = {
    "objects": lambda labels: json.dumps(dict.fromkeys(labels, 1)),
    "dictionaries": lambda labels: str(dict.fromkeys(labels, 1)),
    "lists of objects": lambda labels: json.dumps([{"name": label} for label in labels]),
    "lists of lists": lambda labels: json.dumps([labels, labels]),
    "labels and numbers": lambda labels: str([*labels, 1]),
}


@pytest.mark.parametrize("form", UNREAD)
def test_objects_and_lists_that_are_not_read_stay_whole(form: str) -> None:
    for answers in (ANSWERS, [[f"R&B / {label}; {label}" for label in labels] for labels in ANSWERS]):
        texts = [UNREAD[form](labels) for labels in answers]
        counts = Counter(texts)
        assert separator_of(texts) is separator_of(texts, forced=True) is None
        assert are_unread_lists(pa.array(list(counts)), np.array(list(counts.values())))


@pytest.mark.parametrize("form", FORMS)
def test_empty_texts_do_not_count_against_lists(form: str) -> None:
    separator, write = FORMS[form]
    texts = [text for labels in ANSWERS for text in (write(labels), " ", "")]
    assert separator_of(texts) == separator_of(texts, forced=True) == separator


def test_answers_in_the_order_of_a_questionnaire_are_split_where_most_people_give_one() -> None:
    answers = [["White"]] * 700 + [["Asian"]] * 150 + [["Black"]] * 90
    answers += [["White", "Asian"]] * 20 + [["White", "Black"]] * 20 + [["Asian", "Black"]] * 5
    assert separator_of(["; ".join(labels) for labels in answers]) == "; "
    yes_or_no = ["No"] * 700 + ["Yes, both"] * 90 + ["Yes, full-time"] * 90
    assert separator_of(yes_or_no) is None


def test_empty_lists_and_quoted_commas_are_no_labels_of_their_own() -> None:
    texts = pa.array(["[]", ' ["Crime, true", "War"] ', "['']", "['War',]"])
    assert split_texts(texts, QUOTED_LIST).to_pylist() == [[""], ["Crime, true", "War"], [""], ["War"]]
    assert separator_of(['\u0085["War"]', '["War", "Crime"]\u00a0'], forced=True) == QUOTED_LIST
    assert split_texts(pa.array(["[]", "[ a ,b ]"]), LIST).to_pylist() == [[""], ["a", "b"]]
    sets = pa.array(["set()", "frozenset()", "{'War'}", "frozenset({'War', 'Crime'})"])
    assert split_texts(sets, QUOTED_LIST).to_pylist() == [[""], [""], ["War"], ["War", "Crime"]]
    assert separator_of(["set()"] * 30 + ["{'War'}"] * 30 + ["{'War', 'Crime'}"] * 30) == QUOTED_LIST


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
def test_a_label_is_the_same_whichever_way_it_is_escaped(label: str) -> None:
    for text in (json.dumps(label)[1:-1], json.dumps(label, ensure_ascii=False)[1:-1]):
        assert unescape(text, QUOTED_LIST) == label
        assert text in spellings(label, QUOTED_LIST)
    assert all(unescape(text, QUOTED_LIST) == label for text in spellings(label, QUOTED_LIST))
    assert spellings(label, ";") == [label]
