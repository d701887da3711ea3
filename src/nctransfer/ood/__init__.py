"""How well images of no known class are told from the others."""
