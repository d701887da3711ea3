#!/usr/bin/env bash
# Your own images: a folder that holds one folder of images a class.
#
#     bash examples/own_folder.sh pets/ [any timm model]
set -euo pipefail
images=$1
model=${2:-tf_efficientnet_lite0}

nctransfer extract --model "$model" --data "$images" # only images that are new or changed are run
nctransfer collapse                                  # of the set used last: the one just extracted
nctransfer fewshot --ways 2 --shots 1,3 --queries 5
nctransfer fewshot --ways 2 --shots 1,3 --queries 5 --format json --output fewshot.json
