"""Features from all nodes of a cluster of Ray: ray job submit -- python examples/ray_cluster.py PETS CACHE."""

import sys

import nctransfer as nct

pets, cache = sys.argv[1:]  # folders that every node sees under the same path
options = nct.RayOptions(address="auto")  # one worker per GPU; without address a cluster is started on this computer
features = nct.extract("vit_base", pets, engine="ray", ray=options, cache_dir=cache)
print(nct.collapse(features))
