"""Which labels look wrong, and how sure that is."""
