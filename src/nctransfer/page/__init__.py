"""All that is known of a data set and its backbones, in one HTML file."""
