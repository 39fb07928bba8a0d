"""What the terminal report is made of: `shapes` of text, and the `details` that it has under --verbose."""
