"""Raises while it is imported, after it has drawn."""

import random

random.random()
raise OSError("not here")
