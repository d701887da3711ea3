"""Classes and images placed so that a person can look at them."""
