"""Which backbone suits these images, and how sure that is."""
