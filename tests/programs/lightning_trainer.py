"""Trains and validates a small classifier with the Lightning Trainer."""

import argparse

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Classifier(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3))

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        x, labels = batch
        loss = nn.functional.cross_entropy(self.net(x), labels)
        print("train", self.current_epoch, index, repr(loss.item()))
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> None:
        x, labels = batch
        self.log("val_loss", nn.functional.cross_entropy(self.net(x), labels))

    def on_validation_epoch_end(self) -> None:
        print("validation", self.current_epoch, repr(self.trainer.callback_metrics["val_loss"].item()))

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save")
    args = parser.parse_args()

    L.seed_everything(0)
    x = torch.randn(160, 8)
    labels = x[:, :3].argmax(dim=1)
    train = DataLoader(TensorDataset(x[:128], labels[:128]), batch_size=32, shuffle=True)
    validation = DataLoader(TensorDataset(x[128:], labels[128:]), batch_size=32)
    model = Classifier()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=3,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, train, validation)
    if args.save:
        torch.save(model.state_dict(), args.save)


if __name__ == "__main__":
    main()
