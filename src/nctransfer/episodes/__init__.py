"""n-way k-shot tasks: drawn, multiplied, classified."""
