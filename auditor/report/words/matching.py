"""The words for two programs: what a relation between two values can mean, why a name has no counterpart, why nothing can be concluded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from auditor.report.words.wording import Words
from auditor.results import Reason

#: Readings of one factor, of which one is right.
_READINGS = frozenset((
    "number-differs", "twice", "half", "sum-for-mean", "mean-for-sum", "sum-for-mean-twice", "mean-for-sum-twice", "sum-for-mean-half",
    "mean-for-sum-half", "unbiased-for-biased", "biased-for-unbiased", "scale-missing", "scale-added", "power-of-ten", "times-number",
    "over-number", "bias-correction", "bias-correction-first", "bias-correction-second",
))  # fmt: skip


def joined(reasons: Sequence[Reason], texts: Sequence[str]) -> str:
    """The meaning of a relation as one phrase: readings with "or", all else with commas."""
    said = ""
    for k, (reason, text) in enumerate(zip(reasons, texts, strict=True)):
        before = reasons[k - 1].slug if k else ""
        separator = "" if not k or before == "sign-too" else "; or " if {before, reason.slug} <= _READINGS else ", "
        said += separator + text
    return said


def _bessel(root: bool, n: int, what: str, unbiased: bool) -> str:
    name = "standard deviation" if root else "variance"
    second, first = ("unbiased", "biased") if unbiased else ("biased", "unbiased")
    return f"the {second} {name} in the second against the {first} one in the first, over the {what} (N = {n})"


def _unbiased_for_biased(root: bool, n: int, what: str) -> str:
    return _bessel(root, n, what, True)


def _biased_for_unbiased(root: bool, n: int, what: str) -> str:
    return _bessel(root, n, what, False)


def _bias_correction_second(beta: float, update: int, moment: bool) -> str:
    where = "in the moment" if moment else "in an update"
    return f"a bias correction of the second moment that one program omits (beta {beta}, update {update}, {where})"


def _bias_correction(betas: list[float], update: int) -> str:
    return f"a bias correction that one program omits (beta {betas[0]} and {betas[1]}, update {update})"


def _then_other_factors(factors: list[float]) -> str:
    return f"then {', '.join(f'{one:.4g}' for one in factors)}, because the difference feeds back into both"


def _drift(step: int, occurrence: int) -> str:
    where = f"step {step}, occurrence {occurrence}" if step else f"occurrence {occurrence}"
    return f"drift that rounding explains: it reaches 1 % at {where}"


def _name(name: str, stem: str, more: int, scope: str, which: str, line: int) -> str:
    others = f" and {more} more of `{stem}`" if more else ""
    return f"`{name}`{others}{f' in {scope}' if scope else ''} of the {which} program (line {line})"


def _name_alone(name: str, stem: str, more: int, scope: str, which: str, line: int) -> str:
    return f"{_name(name, stem, more, scope, which, line)}: no counterpart"


def _name_ambiguous(name: str, stem: str, more: int, scope: str, which: str, line: int, candidates: list[str]) -> str:
    why = f"it holds the same numbers as each of {_some(f'`{one}`' for one in candidates)}, and only one can be meant"
    if len(candidates) == 1:
        why = f"`{candidates[0]}` holds the same numbers, and so does another name beside it"
    return f"{_name(name, stem, more, scope, which, line)}: {why}"


def _name_other_size(name: str, stem: str, more: int, scope: str, which: str, line: int, size: str, other: str) -> str:
    sizes = f"{other or 'a single number'}, not {size or 'a single number'}"
    return f"{_name(name, stem, more, scope, which, line)}: that of the other program has another size ({sizes})"


def _mapping_unknown(a: str, b: str, which: str, name: str, values: int, scopes: list[str]) -> str:
    why = "has no value of that name" if not values else f"has {values} of that name, in {_some(scopes)}"
    return f"`{a}` = `{b}` of the mapping: the {which} program {why} (`{name}`)"


def _some(words: Iterable[str]) -> str:
    found = list(dict.fromkeys(words))
    return ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")


def _few_counterparts(names: int, alone: int) -> str:
    agree = "1 name agrees" if names == 1 else f"{names} names agree"
    return f"{agree}, but {alone} {'has' if alone == 1 else 'have'} no counterpart."


def _later_name_differs(names: int, a: str, b: str) -> str:
    return f"{names} name{'s' if names > 1 else ''} agree, but the later `{a}` does not: use --map '{a}={b}' if it should."


def _dropout(which: str, part: float, scale: float) -> str:
    return f"{100 * part:.0f} % of the elements of the {which} are zero and the others {scale:.4g} times as large: dropout"


WORDS: dict[str, Words] = {
    # why nothing can be concluded
    "nothing-named": "Neither program gave a name to a number.",
    "no-counterparts": "No name of one program has a counterpart in the other.",
    "few-counterparts": _few_counterparts,
    "later-name-differs": _later_name_differs,
    # names without a counterpart
    "name-alone": _name_alone,
    "name-ambiguous": _name_ambiguous,
    "name-other-size": _name_other_size,
    "mapping-unknown": _mapping_unknown,
    # what a factor can mean
    "sign-too": "the sign, and: ",
    "number-differs": "`{name}` is {a:.6g} in the first and {b:.6g} in the second program",
    "twice": "twice: a one half that is missing in the first or too much in the second, or the derivative of a square",
    "half": "half: a one half that is missing in the second or too much in the first, or the derivative of a square",
    "sum-for-mean": "{n}: a sum in the second where the first takes a mean over the {what}",
    "mean-for-sum": "1/{n}: a mean in the second where the first takes a sum over the {what}",
    "sum-for-mean-twice": "2 x {n}: a sum against a mean over the {what}, and the derivative of a square",
    "mean-for-sum-twice": "2/{n}: a mean against a sum over the {what}, and the derivative of a square",
    "sum-for-mean-half": "{n}/2: a sum against a mean over the {what}, and a one half or the derivative of a square",
    "mean-for-sum-half": "1/(2 x {n}): a mean against a sum over the {what}, and a one half",
    "unbiased-for-biased": _unbiased_for_biased,
    "biased-for-unbiased": _biased_for_unbiased,
    "scale-missing": "sqrt({n}): a scale of 1/sqrt(d) that the second does not have, d the {what}",
    "scale-added": "1/sqrt({n}): a scale of 1/sqrt(d) that the first does not have, d the {what}",
    "power-of-ten": "a power of ten: {value:.6g}",
    "times-number": "as if the second were multiplied by `{name}` ({value:.6g})",
    "over-number": "as if the second were divided by `{name}` ({value:.6g})",
    "bias-correction": _bias_correction,
    "bias-correction-first": "a bias correction of the first moment that one program omits (beta {beta}, update {update})",
    "bias-correction-second": _bias_correction_second,
    "then-other-factors": _then_other_factors,
    "as-good-as-offset": "all elements are equal: an offset explains it as well",
    "about-scaled": "about {factor:.3g} times as large",
    "and-scaled": "and each is {factor:.6g} times as large",
    # what else a relation can mean
    "lag-late": "the second is one occurrence late",
    "lag-early": "the second is one occurrence early",
    "accumulates": (
        "from occurrence {occurrence} on each {what} of the second contains all earlier ones: something accumulates and is never reset"
    ),
    "momentum": (
        "each {what} of the second contains {share:.2g} of the one before: a momentum or moving average that the first does not have"
    ),
    "ratio-multiplies": "the ratio is {factor:.6g} times as large at each occurrence",
    "ratio-grows": "the ratio grows by {amount:.6g} at each occurrence",
    "difference-grows": "the difference grows by the same amount at each occurrence",
    "transposed": "transposed",
    "reordered": "the same {what} in another order",
    "shapes-differ": "shapes {a} and {b}",
    "sizes-differ": "their sizes differ",
    "elements-not-finite": "{a} elements of the first and {b} of the second are not finite",
    "does-not-change": "the {which} does not change",
    "is-zero": "the {which} is zero",
    "other-sign": "the same with the other sign",
    "added-to-all": "the same is added to all",
    "rounded-to": "the {which} is the other rounded to {dtype}",
    "against": "{a} against {b}",
    "dropout": _dropout,
    "small-elements-differ": "each element has the same direction, and small ones differ most: as with another epsilon in a denominator",
    "elements-differ": "{elements} of {of} elements differ",
    "transpose-held": "one holds the transpose of the other",
    "other-layout-held": "the same numbers in another layout",
    "gradient-is-rounding": "its gradient is zero but for rounding, in part or in all",
    "drift": _drift,
}
