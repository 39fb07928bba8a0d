"""stand-ins: logging with times, converters and levels, in own formatters and handlers, with exceptions."""

import logging
import logging.handlers
import re
import time

import torch


class Utc(logging.Formatter):
    converter = time.gmtime


logger = logging.getLogger("train")
logger.setLevel(logging.DEBUG)
for formatter in (
    logging.Formatter("%(asctime)s %(levelname)s %(funcName)s:%(lineno)d %(message)s"),
    Utc("%(asctime)s %(process)d %(message)s"),
):
    handler = logging.FileHandler("train.log")
    handler.setFormatter(formatter)
    logger.addHandler(handler)
logger.addHandler(logging.handlers.MemoryHandler(10, target=logging.StreamHandler()))


def train():
    logger.info("loss %.3f", torch.ones(2).sum())
    try:
        torch.ones(2) @ torch.ones(3)
    except RuntimeError:
        logger.exception("failed")


train()
logging.shutdown()
with open("train.log") as file:
    text = file.read()
open("train.log", "w").close()
print(re.sub(r"[0-9]{4}-[0-9-]+ [0-9:,]+( [0-9]+ )?", "TIME ", text))
