"""Takes random bytes from the operating system, in four ways."""

import os
import random
import secrets
import uuid

import torch

numbers = [os.urandom(1)[0], secrets.randbelow(1000), uuid.uuid4().int % 1000, random.SystemRandom().randrange(1000)]  # <- enters
print(torch.tensor(numbers).sum())
