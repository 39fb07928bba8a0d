"""What the Markdown report is made of: `spans` in which nothing of the user's is markup, and the `details` that it folds away."""
