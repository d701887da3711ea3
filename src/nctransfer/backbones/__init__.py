"""A timm model with its weights, from pixels to pooled features."""
