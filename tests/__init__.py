"""Tests of repro-audit; see CONTRIBUTING.md for how they are divided."""
