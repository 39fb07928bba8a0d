"""Trains a tiny, randomly initialised GPT-2 with the transformers Trainer."""

import argparse
import tempfile

import torch
from torch.utils.data import Dataset
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)


class CountingSequences(Dataset[dict[str, torch.Tensor]]):
    def __init__(self, rows: int, length: int, vocabulary: int) -> None:
        starts, strides = torch.arange(rows), torch.arange(rows) % 5 + 1
        self.tokens = (starts[:, None] + strides[:, None] * torch.arange(length)) % vocabulary

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


def train(out: str, save: str | None) -> None:
    set_seed(0)
    config = GPT2Config(vocab_size=32, n_positions=16, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config)
    arguments = TrainingArguments(
        output_dir=out,
        per_device_train_batch_size=8,
        num_train_epochs=2,
        learning_rate=5e-3,
        weight_decay=0.01,
        warmup_steps=2,
        logging_steps=2,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        seed=0,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=CountingSequences(64, 16, 32),
        eval_dataset=CountingSequences(8, 16, 32),
    )
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    for entry in trainer.state.log_history:
        if "loss" in entry:
            print(entry["step"], repr(entry["loss"]), repr(float(entry["grad_norm"])))
    print("eval", repr(trainer.evaluate()["eval_loss"]))
    if save:
        torch.save(model.state_dict(), save)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out")
    parser.add_argument("--save")
    args = parser.parse_args()
    if args.out:
        train(args.out, args.save)
    else:
        with tempfile.TemporaryDirectory(prefix="hf_trainer_", dir=".") as out:
            train(out, args.save)


if __name__ == "__main__":
    main()
