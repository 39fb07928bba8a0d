"""What the Markdown report is made of: its `page`, `spans` of text that stays text, and the `details` that it folds away."""
