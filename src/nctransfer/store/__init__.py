"""Features that a backbone has computed once: extracted, kept as Parquet, found again."""
