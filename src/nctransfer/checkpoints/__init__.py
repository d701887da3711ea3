"""All of it, checkpoint by checkpoint."""
