"""How accurate simple classifiers are."""
