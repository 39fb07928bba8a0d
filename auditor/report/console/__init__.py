"""What the terminal report is made of: its `page`, `shapes` of text, and the `details` that it has under --verbose."""
