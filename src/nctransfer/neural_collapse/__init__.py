"""How tightly classes cluster, how their means lie, and what that bounds."""
