"""A head to use: fitted, calibrated, saved, applied."""
