"""Credentials are removed from command lines, variables and texts; harmless words that look similar stay."""

from __future__ import annotations

import pytest

from auditor.redaction import HIDDEN, is_secret, redacted, redacted_code, redacted_variables, redacted_words, secrets_in, without

CREDENTIALS = (
    "OPENAI_API_KEY", "WANDB_API_KEY", "TORCH_HUB_KEY", "MKL_TOKEN", "HF_TOKEN", "HF_TOKEN_2", "hfToken", "token", "api-key", "apikey",
    "APIKEY", "api_keys", "client-secret", "MYSECRETVALUE", "DB_PASSWORD", "PASSWORD", "PGPASSWORD", "db.password", "passwd", "DB_PASS",
    "DB_PWD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "GOOGLE_APPLICATION_CREDENTIALS", "AUTH_HEADER", "AUTHORIZATION", "AUTH",
    "REDISCLI_AUTH", "PROXY_AUTHORIZATION", "private-key", "NCCL_SECRET", "CUDA_LICENSE_KEY", "--login-token", "x_jwt",
)  # fmt: skip
PLAIN = (
    "KEY_FRAMES", "keyframes", "TOKENIZERS_PARALLELISM", "max-tokens", "max_new_tokens", "tokenizer", "tokenizer-name", "MONKEY", "TURKEY",
    "KEYBOARD", "key", "num-key-value-heads", "key_dim", "token-dim", "eos-token", "pad_token", "loss-per-token", "AUTHOR", "authors",
    "PWD",    "OLDPWD", "forward-pass", "bypass", "COMPASS", "PATH", "OMP_NUM_THREADS", "lr", "seed", "CUBLAS_WORKSPACE_CONFIG", "", "7",
)  # fmt: skip


@pytest.mark.parametrize("name", CREDENTIALS)
def test_a_credential_name_is_recognized_with_any_prefix(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", PLAIN)
def test_a_name_that_only_resembles_a_credential_is_not_one(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("train.py --api-key hush --lr 0.1", f"train.py --api-key {HIDDEN} --lr 0.1"),
        ("train.py --token=hush data.csv", f"train.py --token={HIDDEN} data.csv"),
        ("train.py -password hush", f"train.py -password {HIDDEN}"),
        ("train.py --api-keys hush hush2 --lr 1", f"train.py --api-keys {HIDDEN} {HIDDEN} --lr 1"),
        ("train.py --use-auth --lr 0.1", "train.py --use-auth --lr 0.1"),
        ("train.py wandb.api_key=hush model.dim=5", f"train.py wandb.api_key={HIDDEN} model.dim=5"),
        ("train.py +db.password=a=b", f"train.py +db.password={HIDDEN}"),
        ("train.py --url=https://me:hush@host/x?token=hush", f"train.py --url=https://{HIDDEN}@host/x?token={HIDDEN}"),
        ("train.py postgresql://me:p@ss@host:5432/db", f"train.py postgresql://{HIDDEN}@host:5432/db"),
        ("train.py redis://:hush@host", f"train.py redis://{HIDDEN}@host"),
        ("train.py https://ghtoken@github.com/x", f"train.py https://{HIDDEN}@github.com/x"),
        ("train.py sk-abcdefghij0123456789", f"train.py {HIDDEN}"),
        ("train.py hf_ABCDEFGHIJ0123456789", f"train.py {HIDDEN}"),
        ("train.py --max-tokens 5 --tokenizer bpe", "train.py --max-tokens 5 --tokenizer bpe"),
        ("train.py --key-frames 3 --monkey 1 --author me", "train.py --key-frames 3 --monkey 1 --author me"),
        ("train.py ssh://git@host/x git@host:x https://host/a@b", "train.py ssh://git@host/x git@host:x https://host/a@b"),
        ("train.py lr=0.1 tokens=7 a==b", "train.py lr=0.1 tokens=7 a==b"),
    ],
)
def test_a_command_line_loses_its_credentials_and_nothing_else(words: str, left: str) -> None:
    assert redacted_words(words.split(" ")) == left.split(" ")


def test_of_a_credential_variable_only_the_fact_that_it_is_set_is_kept() -> None:
    given = {"NCCL_TOKEN": "hush", "CUDA_PROXY": "http://me:hush@host:8080", "TOKENIZERS_PARALLELISM": "false", "MONKEY": "1"}
    assert redacted_variables(given) == given | {"NCCL_TOKEN": HIDDEN, "CUDA_PROXY": f"http://{HIDDEN}@host:8080"}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("401 for https://me:hush@host/x", f"401 for https://{HIDDEN}@host/x"),
        ("recorded nothing in train.py --api-key hush (it failed)", f"recorded nothing in train.py --api-key {HIDDEN} (it failed)"),
        ("ValueError: bad API_KEY=hush", f"ValueError: bad API_KEY={HIDDEN}"),
        ("{'api_key': 'hush', 'lr': '1'}", f"{{'api_key': '{HIDDEN}', 'lr': '1'}}"),
        ("Authorization: Bearer hush.hush", f"Authorization: Bearer {HIDDEN}"),
        ("KeyError: 'token'", "KeyError: 'token'"),
        ("unexpected token: end of file", "unexpected token: end of file"),
        ("max_tokens=5, tokenizer=bpe", "max_tokens=5, tokenizer=bpe"),
    ],
)
def test_a_text_loses_its_credentials_and_nothing_else(text: str, left: str) -> None:
    assert redacted(text) == left


def test_source_keeps_its_names_and_loses_written_credentials() -> None:
    assert redacted_code('client = Client(api_key="hush", lr="1")') == f'client = Client(api_key="{HIDDEN}", lr="1")'
    assert redacted_code("token = next(tokens); f(token=token)") == "token = next(tokens); f(token=token)"


def test_an_error_message_loses_a_repeated_credential() -> None:
    secrets = secrets_in(["train.py", "--password", "open sesame", "--token=abcdef", "7"], {"MY_KEY": "xyzzy", "LR": "0.1234"})
    assert secrets == {"open sesame", "abcdef", "xyzzy"}
    assert without("no door for open sesame; abcdef xyzzy 0.1234", secrets) == f"no door for {HIDDEN}; {HIDDEN} {HIDDEN} 0.1234"
