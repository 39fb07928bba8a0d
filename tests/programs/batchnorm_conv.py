"""Trains a channels-last convolutional network with BatchNorm and an exponential moving average of its weights."""

import argparse

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn


def conv_block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save")
    args = parser.parse_args()

    torch.manual_seed(0)
    images = torch.randn(64, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    labels = images.mean(dim=(2, 3)).argmax(dim=1)
    model = nn.Sequential(conv_block(3, 8), conv_block(8, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(16, 3)).to(
        memory_format=torch.channels_last
    )
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
    for epoch in range(3):
        for x, y in zip(images.split(16), labels.split(16), strict=True):
            loss = nn.functional.cross_entropy(model(x), y, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ema.update_parameters(model)
            print(epoch, repr(loss.item()))

    update_bn(images.split(16), ema)
    ema.eval()
    with torch.no_grad():
        print("ema", repr(nn.functional.cross_entropy(ema(images), labels).item()))
    if args.save:
        torch.save({"model": model.state_dict(), "ema": ema.state_dict()}, args.save)


if __name__ == "__main__":
    main()
