"""What looks like a credential, and the same words, variables and texts without it.

Everything that is stored or printed of a command line, an environment or an error passes through here. Names decide (`HF_TOKEN`,
`--api-key`, `db.password`), and for values without a name the shape (`https://user:pass@host`, `sk-...`). What is taken away is not kept
in any form: a digest of a short password can be guessed. Imported in the user's process: the standard library alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

#: Stands for what was taken away.
HIDDEN = "***"

#: Parts of names: `hfToken`, `HF_TOKEN` and `hf-token` are the words hf and token.
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
#: These make a name one of a credential wherever they are in it.
_ANYWHERE = ("secret", "password", "passwd", "passphrase", "credential")
#: Words that do so wherever they stand in it.
_WORDS = frozenset({"auth", "authorization", "authentication", "bearer", "jwt"})
#: Words that do so at its end: alone, or behind a word that is none of those that speak of text or of passes over data.
_ENDS = {"token": True, "apikey": True, "apikeys": True, "apitoken": True, "key": False, "keys": False, "pass": False, "pwd": False}
_PLAIN_BEFORE = {
    "token": frozenset({"bos", "cls", "eos", "mask", "pad", "per", "sep", "unk"}),
    "pass": frozenset({"backward", "by", "first", "forward", "full", "one", "per", "second", "single"}),
    "pwd": frozenset({"old"}),
}
#: Two words that do so wherever they stand in it, also where something follows them: `AWS_ACCESS_KEY_ID`, `HF_TOKEN_2`.
_PAIRS = {"key": frozenset({"access", "api", "auth", "encryption", "master", "private", "signing", "ssh"}),
          "token": frozenset({"access", "api", "bot", "github", "gitlab", "hf", "hub", "refresh", "session", "slack"})}  # fmt: skip

#: Tokens of known services, also where nothing says what they are.
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
# A name in front of a value, and where the value ends. Their length is bounded: a text of a stranger takes no longer than it is long.
_QUOTED = re.compile(
    r"""(?<![\w.-])(?P<name>[A-Za-z_][\w.-]{0,80})['"]?\]?\s{0,3}[:=]\s{0,3}[brfu]{0,2}(?:'(?=[^']{1,9999}')|"(?=[^"]{1,9999}"))"""
)
_GIVEN = re.compile(r"(?<![\w.-])(?P<name>-{0,2}[A-Za-z_][\w.-]{0,80})=(?=[^\s'\"&;,)\]}])")
_OPTION = re.compile(r"(?<!\S)(?P<name>--?[A-Za-z][\w.-]{0,80})\s{1,3}(?=[^\s-])")
_ENDS_AT = {_QUOTED: re.compile(r"""[^'"]+"""), _GIVEN: re.compile(r"[^\s'\"&;,)\]}]+"), _OPTION: re.compile(r"\S+")}
#: Shorter values are not looked for in texts: too much would be hidden that is none.
_SHORTEST = 5


def is_secret(name: str) -> bool:
    """Whether a variable or an option of this name holds a credential."""
    lower = name.lower()
    if any(part in lower for part in _ANYWHERE):
        return True
    parts = [part.lower() for part in _PARTS.findall(name)]
    if not parts or not _WORDS.isdisjoint(parts):
        return bool(parts)
    last, before = parts[-1], parts[-2] if len(parts) > 1 else ""
    alone = _ENDS.get(last)
    if alone is not None and (alone or before) and before not in _PLAIN_BEFORE.get(last, ()):
        return True
    return any(a in _PAIRS.get(b, ()) for a, b in zip(parts, parts[1:], strict=False))  # noqa: RUF007  # itertools is nothing that a script has loaded


def redacted(text: str) -> str:
    """A text without the credentials in it: in addresses, behind a name, in a header, or known by their shape."""
    for pattern in (_QUOTED, _GIVEN, _OPTION):
        text = _behind_names(pattern, text)
    return _by_shape(text)


def redacted_code(text: str) -> str:
    """A line of source without the credentials that are written out in it."""
    return _by_shape(_behind_names(_QUOTED, text))


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
    """Environment variables without credentials: of one that holds one, only that it is set."""
    return {name: HIDDEN if is_secret(name) else redacted(value) for name, value in variables.items()}


def secrets_in(words: Iterable[str], variables: Mapping[str, str]) -> frozenset[str]:
    """The values that are credentials, the longest first in any text that holds two: for `without`, never to be kept."""
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


def _behind_names(pattern: re.Pattern[str], text: str) -> str:
    """The text without what stands behind a name of a credential; a value behind another name may itself hold names and values."""
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
