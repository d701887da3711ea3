"""Features from all nodes of a cluster of Ray: ray job submit -- python examples/ray_cluster.py PETS CACHE.

Every node needs the images and the cache under the same path, and the weights of the backbone: as an installed package,
or in its cache of the Hugging Face Hub. If the program is interrupted, run it again: it goes on from there.
"""

import sys

import nctransfer as nct

pets, cache = sys.argv[1:]  # folders that every node sees under the same path
options = nct.RayOptions(address="auto")  # one worker per GPU; without address a cluster is started on this computer
features = nct.extract("vit_base", pets, engine="ray", ray=options, cache_dir=cache)
print(nct.collapse(features))
