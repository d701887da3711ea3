"""n-way k-shot episodes: how they are drawn, and what classifies them."""
