"""Collapse and few-shot accuracy of every checkpoint of a training run."""
