"""Detects credentials, and removes them from words, variables and texts.

Everything stored or printed from a command line, an environment or an error passes through here. Names decide (`HF_TOKEN`, `--api-key`,
`db.password`); for values without a name the shape decides (`https://user:pass@host`, `sk-...`). A removed value is not kept in any form: a
digest of a short password can be guessed. Imported in the user's process, so it uses the standard library alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

#: Replaces a removed value.
HIDDEN = "***"

#: Parts of names: `hfToken`, `HF_TOKEN` and `hf-token` consist of hf and token.
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
#: Substrings that mark a name as one of a credential, anywhere in it.
_ANYWHERE = ("secret", "password", "passwd", "passphrase", "credential")
#: Whole words that do so, anywhere in the name.
_WORDS = frozenset({"auth", "authorization", "authentication", "bearer", "jwt"})
#: Words that do so at the end of a name: alone, or after a word that is not in `_HARMLESS_BEFORE` (words about text or training passes).
_ENDS = {"token": True, "apikey": True, "apikeys": True, "apitoken": True, "key": False, "keys": False, "pass": False, "pwd": False}
_HARMLESS_BEFORE = {
    "token": frozenset({"bos", "cls", "eos", "mask", "pad", "per", "sep", "unk"}),
    "pass": frozenset({"backward", "by", "first", "forward", "full", "one", "per", "second", "single"}),
    "pwd": frozenset({"old"}),
}
#: Pairs of words that do so anywhere in the name, with or without more words after them: `AWS_ACCESS_KEY_ID`, `HF_TOKEN_2`.
_PAIRS = {"key": frozenset({"access", "api", "auth", "encryption", "master", "private", "signing", "ssh"}),
          "token": frozenset({"access", "api", "bot", "github", "gitlab", "hf", "hub", "refresh", "session", "slack"})}  # fmt: skip

#: Tokens of known services, recognized without a name.
_SHAPES = re.compile(
    r"\b(?:sk-[\w-]{16,}|gh[opsru]_\w{16,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{16,}|AKIA[0-9A-Z]{16}"
    r"|xox[abeoprs]-[\w-]{10,}|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?)"
)
_USER_OF_URL = re.compile(
    r"(?<=://)(?:[^\s/?#@:'\"]{0,100}:[^\s/?#'\"]{0,1000}|(?<=http://)[^\s/?#:'\"]{1,1000}|(?<=https://)[^\s/?#:'\"]{1,1000})@"
)
_HEADER = re.compile(
    r"(?i)\b((?:proxy-)?authorization['\"]?\s{0,3}[:=]\s{0,3}['\"]?(?:basic|bearer|digest|token)\s{1,3}|bearer\s{1,3}(?=\S{16}))[^\s'\",]+"
)
# A name before a value, and where the value ends. Lengths are bounded, so that untrusted text takes linear time.
_QUOTED = re.compile(
    r"""(?<![\w.-])(?P<name>[A-Za-z_][\w.-]{0,80})['"]?\]?\s{0,3}[:=]\s{0,3}[brfu]{0,2}(?:'(?=[^']{1,9999}')|"(?=[^"]{1,9999}"))"""
)
_GIVEN = re.compile(r"(?<![\w.-])(?P<name>-{0,2}[A-Za-z_][\w.-]{0,80})=(?=[^\s'\"&;,)\]}])")
_OPTION = re.compile(r"(?<!\S)(?P<name>--?[A-Za-z][\w.-]{0,80})\s{1,3}(?=[^\s-])")
_ENDS_AT = {_QUOTED: re.compile(r"""[^'"]+"""), _GIVEN: re.compile(r"[^\s'\"&;,)\]}]+"), _OPTION: re.compile(r"\S+")}
#: Shorter values are not searched for in texts: too many harmless words would be hidden.
_SHORTEST = 5


def is_secret(name: str) -> bool:
    """Whether a variable or an option with this name holds a credential."""
    lower = name.lower()
    if any(part in lower for part in _ANYWHERE):
        return True
    parts = [part.lower() for part in _PARTS.findall(name)]
    if not parts or not _WORDS.isdisjoint(parts):
        return bool(parts)
    last, before = parts[-1], parts[-2] if len(parts) > 1 else ""
    alone = _ENDS.get(last)
    if alone is not None and (alone or before) and before not in _HARMLESS_BEFORE.get(last, ()):
        return True
    return any(a in _PAIRS.get(b, ()) for a, b in zip(parts, parts[1:], strict=False))  # noqa: RUF007  # itertools is nothing that a script has loaded


def redacted(text: str) -> str:
    """A text without its credentials: in URLs, after a name, in a header, or recognized by shape."""
    for pattern in (_QUOTED, _GIVEN, _OPTION):
        text = _after_names(pattern, text)
    return _by_shape(text)


def redacted_code(text: str) -> str:
    """A line of source without the credentials that are written in it."""
    return _by_shape(_after_names(_QUOTED, text))


def redacted_words(words: Iterable[str]) -> list[str]:
    """The words of a command line without the credentials among them."""
    found: list[str] = []
    hide = many = False
    for word in words:
        if word.startswith("-") and word != "-":
            hide = many = False
            name, given, _ = word.partition("=")
            if is_secret(name):
                word = f"{name}={HIDDEN}" if given else word
                hide, many = not given, name.lower().endswith("s")
            else:
                word = redacted(word)
        elif hide:
            word, hide = HIDDEN, many
        else:
            name, given, _ = word.partition("=")
            word = f"{name}={HIDDEN}" if given and re.fullmatch(r"[\w.+~-]+", name) and is_secret(name) else redacted(word)
        found.append(word)
    return found


def redacted_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Environment variables without credentials: for such a variable, only the fact that it is set is kept."""
    return {name: HIDDEN if is_secret(name) else redacted(value) for name, value in variables.items()}


def secrets_in(words: Iterable[str], variables: Mapping[str, str]) -> frozenset[str]:
    """The values that are credentials, longest first, so that overlapping ones are removed whole: for `without`, never to be kept."""
    given = list(words)
    found = {value for name, value in variables.items() if is_secret(name)}
    for before, after in zip(given, redacted_words(given), strict=True):
        if before != after:
            head, sign, value = before.partition("=")
            found.add(value if sign and after == f"{head}={HIDDEN}" else before)
    return frozenset(value for value in found if len(value) >= _SHORTEST)


def without(text: str, secrets: Iterable[str]) -> str:
    """A text without these values, and without what looks like a credential by itself."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return redacted(text)


def _after_names(pattern: re.Pattern[str], text: str) -> str:
    """The text without the values after names of credentials; a value after another name may contain names and values too."""
    parts, kept = [], 0
    for found in pattern.finditer(text):
        if found.start() < kept or not is_secret(found["name"]):
            continue
        value = _ENDS_AT[pattern].match(text, found.end())
        if value is not None:
            parts += [text[kept : found.end()], HIDDEN]
            kept = value.end()
    return "".join([*parts, text[kept:]])


def _by_shape(text: str) -> str:
    text = _USER_OF_URL.sub(f"{HIDDEN}@", text)
    return _SHAPES.sub(HIDDEN, _HEADER.sub(rf"\1{HIDDEN}", text))
