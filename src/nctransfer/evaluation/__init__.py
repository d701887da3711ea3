"""How accurate simple classifiers are: on episodes, on all labels, and in theory."""
