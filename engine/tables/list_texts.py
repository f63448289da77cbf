"""Recognise text columns in which one text holds several answers, and split them.

    distinct texts and their counts  ->  the separator, or None if the texts are one answer each
    texts, separator                 ->  lists of labels

A separator is a sign between answers, or one of the forms of a list in brackets: LIST for `[a, b]`, ARRAY for
`{a,"b c"}` of PostgreSQL, and QUOTED_LIST for `["a", "b"]`, `{'a', 'b'}` or `['a' 'b']`, as JSON, Python and numpy
write lists and sets. None, NULL and NaN without quotation marks are no labels. SQL splits texts by the same steps.
"""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

LIST, QUOTED_LIST, ARRAY = "[,]", '["]', '{"}'
SEPARATORS = (";#", "; ", ";", "|", "::", "\n", ", ")  # tried in this order; ;# is that of SharePoint
# Signs that stand within texts of one answer as well: tried last, and only on few labels that recur in many ways.
WEAK_SEPARATORS = (",", "/", "+", "&", " ")
SPACE = r"[\t\n\f\r ]*"
MARK = "\x1f"  # between the labels of a list, once its quotation marks and commas are gone
BARE = "\x1e"  # before a label of an array that has no quotation marks
NULL = "(?:None|none|NULL|Null|null|NaN|nan|<NA>)"  # no label, without quotation marks
MIN_SHARE = 0.02  # of the texts that have the separator
MIN_LIST_SHARE = 0.98  # of the texts that are in brackets
MIN_MENTIONS = 5  # of a label, on average
MAX_WEAK_LABELS = 50
MAX_MIXED = 0.01  # of the texts that have labels with and without quotation marks, which a QUOTED_LIST has not
MAX_REPEATING = 0.01  # of the texts that have a label twice: no one gives an answer twice, but prose repeats its words
RECORD_SHARE = 0.95  # of the mentions of labels that are always at one position, as in "Smith, John"
_HEAD = 1000  # distinct texts that rule out most columns of prose
_OPENING, _CLOSING = r"[\[({]", r"[\])}]"
_SET = r"(?:(?:frozen)?set\(?)?"  # before a set of Python, the empty one too
_IN_BRACKETS = rf"(?s)^{SPACE}{_SET}{_OPENING}.*{_CLOSING}{SPACE}$"
_IN_QUOTES = rf"^{SPACE}{_SET}{_OPENING}{SPACE}[\"']"
_NEXT = rf"(?:{SPACE},{SPACE}|{SPACE.replace('*', '+')})"  # numpy writes no commas
_AFTER_QUOTED = rf"[\"']{_NEXT}(?:{NULL}{_NEXT})*"  # after a label in quotation marks, before the next one
_MIXED = rf"[\"']{SPACE},{SPACE}[^\"'\s,]|[^\"'\s,]{SPACE},{SPACE}[\"']"
_QUOTED = '"(?:[^"\\\\]|\\\\(?:.|\n))*"'
_BARE = r'[^",{}]*[^",{} \t\n\f\r]'
_ITEM = rf"{SPACE}(?:{_QUOTED}|{_BARE}){SPACE}"
_ARRAY = rf"^{SPACE}\{{(?:{SPACE}|{_ITEM}(?:,{_ITEM})*)\}}{SPACE}$"
_NESTED = rf"^{SPACE}(?:{_OPENING}{SPACE}[\[{{]|\{{{SPACE}[\"'][^\"']*[\"']{SPACE}:)"  # lists of lists, JSON objects


def find_separator(texts: pa.Array, counts: NDArray[np.int64], *, forced: bool = False) -> str | None:
    """Return the separator of a column of multi-select answers, or None if its texts are one answer each.

    Multi-select answers combine few labels in many ways: there are at least 1.5 times as many distinct texts as labels,
    a label comes up at least MIN_MENTIONS times on average, and labels are not bound to a position, as the parts of
    names and addresses are. Signs that are common within one answer need more: see WEAK_SEPARATORS.

    Parameters
    ----------
    texts : pyarrow.Array of str
        Distinct texts.
    counts : int64 array of shape (n_texts,)
        Rows of each.
    forced : bool
        Whether the column is multi-select for certain: the first separator that any text has is returned.
    """
    texts = pc.utf8_trim_whitespace(texts)
    written = pc.not_equal(texts, "")  # an empty text has no labels, however others are joined
    texts, counts = texts.filter(written), counts[written.to_numpy(zero_copy_only=False)]
    n_rows = counts.sum()
    if n_rows == 0:
        return None
    separator = _find_list_form(texts, counts, 0.5 if forced else MIN_LIST_SHARE)
    if separator and (forced or _is_plausible(texts, counts, separator)):
        return separator
    if are_unread_lists(texts, counts):
        return None
    for separator in SEPARATORS + WEAK_SEPARATORS:
        having = pc.match_substring(texts, separator).to_numpy(zero_copy_only=False)
        n_having = counts[having].sum()
        if n_having == 0 or (not forced and n_having < MIN_SHARE * n_rows):
            continue
        if forced or _is_plausible(texts, counts, separator):
            return separator
    return None


def _find_list_form(texts: pa.Array, counts: NDArray[np.int64], min_share: float) -> str | None:
    """Return the form of the lists that so many of the rows are, or None if they are none."""
    least = min_share * counts.sum()
    if counts[_select(texts, _IN_BRACKETS) & ~_select(texts, _NESTED)].sum() < least:
        return None
    n_quoted = counts[_select(texts, _IN_QUOTES)].sum()
    if counts[_select(texts, _ARRAY) & ~_select(texts, rf"^{SPACE}\{{{SPACE}'")].sum() >= least:
        return ARRAY
    if n_quoted < 0.5 * counts[_select(texts, r"\w")].sum():
        return LIST
    is_mixed = _select(_join(texts, QUOTED_LIST), _MIXED)
    return None if counts[is_mixed].sum() > MAX_MIXED * counts.sum() else QUOTED_LIST


def are_unread_lists(texts: pa.Array, counts: NDArray[np.int64]) -> bool:
    """Tell whether half of the rows hold lists in quotation marks, lists of lists, or JSON objects.

    If `find_separator` does not read them, no sign within them separates labels.
    """
    structured = _select(texts, _IN_BRACKETS) & (_select(texts, _IN_QUOTES) | _select(texts, _NESTED))
    return bool(counts[structured].sum() > 0.5 * counts[_select(texts, r"\w")].sum())


def split_texts(texts: pa.Array, separator: str) -> pa.Array:
    """Split texts, plain or dictionary-encoded, into lists of labels, without the white space around each.

    The labels of a QUOTED_LIST keep their escapes: see `unescape`.
    """
    if pa.types.is_dictionary(texts.type):
        return split_texts(texts.dictionary, separator).take(texts.indices)
    return pc.split_pattern(pc.utf8_trim_whitespace(_join(texts, separator)), joining_steps(separator)[1])


def _join(texts: pa.Array, separator: str) -> pa.Array:
    """Return texts with a mark between two labels, which may have white space around them at both ends."""
    if is_list(separator):
        texts = pc.utf8_trim_whitespace(texts)
    for pattern, replacement in joining_steps(separator)[0]:
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    return texts


def joining_steps(separator: str) -> tuple[list[tuple[str, str]], str]:
    """Return regular expressions and what replaces their matches, all of them, and the mark then between labels."""
    if not is_list(separator):
        sign = separator if separator == "\n" else separator.strip() or " "
        return [(f"{SPACE}{re.escape(sign)}{SPACE}" if sign != " " else SPACE.replace("*", "+"), sign)], sign
    if separator == ARRAY:
        return _array_steps(), MARK
    if separator == QUOTED_LIST:
        quote = "[\"']"
        opening = rf"^{_SET}{_OPENING}{SPACE}(?:{NULL}{_NEXT})*{quote}?"
        closing = rf"{quote}?(?:{_NEXT}?{NULL})*{SPACE},?{SPACE}(?:{_CLOSING}|\}}\))$"
        return [(f"{opening}|{closing}", ""), (f"{_AFTER_QUOTED}{quote}", MARK)], MARK
    ends = rf"^{_SET}{_OPENING}{SPACE}|{SPACE},?{SPACE}(?:{_CLOSING}|\}}\))$"
    nulls = f"(?:^|{MARK}){NULL}(?:{MARK}|$)"
    return [(ends, ""), (f"{SPACE},{SPACE}", MARK + MARK), (nulls, ""), (f"{MARK}+", MARK)], MARK


def _array_steps() -> list[tuple[str, str]]:
    """Return the steps for arrays of PostgreSQL, of which only labels with blanks or commas are in quotation marks."""
    return [
        (rf'[{{,]{SPACE}(?:"((?:[^"\\]|\\(?:.|\n))*)"|({_BARE})){SPACE}', rf"{MARK}\1{MARK}{BARE}\2{MARK}"),
        (f"{BARE}[Nn][Uu][Ll][Ll]{MARK}", MARK),  # None is a label here
        (r"^\{|\}$", ""),
        (f"[{BARE}{MARK}]+", MARK),
        (f"^{MARK}|{MARK}$", ""),
    ]


def is_list(separator: str) -> bool:
    """Tell whether a separator stands for lists in brackets."""
    return separator in (LIST, QUOTED_LIST, ARRAY)


def describe_separator(separator: str) -> str:
    """Return how the answers of one text are told apart, as in "texts joined by ';'"."""
    return "lists in brackets" if is_list(separator) else f"texts joined by {separator!r}"


def unescape(label: str, separator: str) -> str:
    """Return a label without its escapes, where they are written as JSON, PHP, Python or PostgreSQL would."""
    if "\\" not in label or separator not in (QUOTED_LIST, ARRAY):
        return label
    try:
        plain = _unescape_array(label) if separator == ARRAY else json.loads(f'"{label}"', strict=False)
    except ValueError:
        plain = label.replace("\\'", "'").replace("\\\\", "\\")
    return plain if isinstance(plain, str) and label in _spell(plain, separator) else label


def _unescape_array(label: str) -> str:
    return re.sub(r"(?s)\\(.)", r"\1", label)


def spellings(label: str, separator: str) -> list[str]:
    """Return all texts that a label may be written as."""
    if separator not in (QUOTED_LIST, ARRAY):
        return [label]
    texts = dict.fromkeys([label, *_spell(label, separator)])
    return [text for text in texts if unescape(text, separator) == label]


def _spell(label: str, separator: str) -> list[str]:
    if separator == ARRAY:
        return [label.replace("\\", "\\\\").replace('"', '\\"')]
    written = [json.dumps(label, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)]
    return [*written, *(text.replace("/", "\\/") for text in written), label.replace("\\", "\\\\").replace("'", "\\'")]


def _select(texts: pa.Array, pattern: str) -> NDArray[np.bool_]:
    selected: NDArray[np.bool_] = pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)
    return selected


def _is_plausible(texts: pa.Array, counts: NDArray[np.int64], separator: str) -> bool:
    """Tell whether texts that are split at a separator are multi-select answers."""
    weak = separator in WEAK_SEPARATORS
    if weak and _count_labels(texts.slice(0, _HEAD), separator) > MAX_WEAK_LABELS:
        return False
    lists = split_texts(texts, separator)
    labels = lists.flatten()
    encoded = labels.dictionary_encode()
    lengths = pc.list_value_length(lists).to_numpy()
    codes, n_labels = encoded.indices.to_numpy(), len(encoded.dictionary)
    mentions = np.repeat(counts, lengths)
    if mentions.sum() < MIN_MENTIONS * n_labels:
        return False
    if separator == QUOTED_LIST:
        return True
    if len(texts) < 1.5 * n_labels:
        return False
    # Answers in the order of a questionnaire are bound to positions too, where most people give only one of them.
    mostly_one = mentions[np.repeat(lengths == 1, lengths)].sum() >= 0.5 * mentions.sum()
    if (weak or not mostly_one) and _are_records(codes, lengths, mentions):
        return False
    if not weak:
        fractions = pc.match_substring_regex(encoded.dictionary, r"^[+-]?[0-9]*[.][0-9]+$")
        return bool(pc.sum(fractions).as_py() <= n_labels / 2)  # coordinates are no answers
    names = encoded.dictionary.to_pylist()
    if n_labels > MAX_WEAK_LABELS or len(texts) < (2 if separator == "," else 3) * n_labels:
        return False
    rows = np.repeat(np.arange(len(texts)), lengths)
    repeats = np.bincount(rows, minlength=len(texts)) > np.bincount(
        np.unique(rows * n_labels + codes) // n_labels, minlength=len(texts)
    )
    if counts[repeats].sum() > MAX_REPEATING * counts.sum():
        return False
    if separator == ",":
        return True
    alone = np.isin(np.arange(n_labels), codes[np.repeat(lengths == 1, lengths)])
    return bool(alone.mean() >= 0.5 and all(any(map(str.isalpha, name)) for name in names))


def _count_labels(texts: pa.Array, separator: str) -> int:
    return len(split_texts(texts, separator).flatten().unique())


def _are_records(codes: NDArray[np.int32], lengths: NDArray[np.int32], mentions: NDArray[np.int64]) -> bool:
    """Tell whether labels are bound to positions, as surname and first name are."""
    starts = np.cumsum(lengths) - lengths
    positions = np.arange(len(codes)) - np.repeat(starts, lengths)
    width = int(lengths.max())
    at = np.bincount(codes.astype(np.int64) * width + positions, mentions).astype(np.int64)
    at = np.concatenate([at, np.zeros(-len(at) % width, np.int64)]).reshape(-1, width)
    return bool(at.max(axis=1).sum() >= RECORD_SHARE * mentions.sum())
