"""What has been through a backbone once: extracted, kept as Parquet, found again."""
