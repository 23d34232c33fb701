"""What `convattn VERB --help` says below the options."""

from __future__ import annotations

__all__ = [
    "AUDIT",
    "COMPARE",
    "COST",
    "DATA_CHECK",
    "DATA_SHARD",
    "DEMO",
    "DOCTOR",
    "EVAL",
    "EXPLAIN",
    "LIST",
    "TABLES",
    "TRAIN",
]

LIST = """\
examples:
  convattn list                blocks with a sentence each
  convattn list models         networks
  convattn list hosts          networks of timm and torchvision, where these are installed
  convattn list sources        authors' classes that can be built and loaded
  convattn list recipes        the papers' training recipes, for --config
"""
TRAIN = """\
examples:
  convattn train --attention ca
  convattn train --attention ca --data path/to/imagenet --epochs 200 --batch 256
  convattn train --attention se --attention_args.reduction 24 --model_args.width_mult 0.5
  convattn train --host timm/resnet18 --insert ca@after_conv2 --checkpoint resnet18.pth --lr 0.01
  convattn train --config my.yaml --lr 0.1       values of the file, then of the line
  convattn train --config ca_imagenet --data path/to/imagenet     a paper's recipe
  convattn train --attention ca --print_config   write such a file
  convattn train --resume runs/mobilenet_v2_ca   go on where it stopped
  torchrun --nproc_per_node 8 -m convattn train --data path/to/imagenet
"""
EVAL = """\
examples:
  convattn eval runs/mobilenet_v2_ca
  convattn eval runs/mobilenet_v2_ca/weights/last.pt --data path/to/images
"""
COMPARE = """\
examples:
  convattn compare --blocks '[none, se, ca]' --seeds 5 --data path/to/images --name study
  convattn compare --grid '{lr: [0.05, 0.1]}'    vary another field as well
  convattn compare --host timm/resnet18 --blocks '[none, se@before_add, ca@after_conv2]'
The same command goes on where it was stopped, and repeats no finished run.
"""
EXPLAIN = """\
examples:
  convattn explain runs/mobilenet_v2_ca
  convattn explain runs/mobilenet_v2_ca --out gates.png --count 8 --data path/to/images
"""
COST = """\
With a block, the network without it stands beside. Measuring takes some seconds.

examples:
  convattn cost mobilenet_v2 --attention ca
  convattn cost mobilenet_v2 --attention ca --measure --per_block
  convattn cost resnet50 --convention ptflops
  convattn cost timm/resnet18 --insert ca@after_conv2
  convattn cost mobilenet_v2 --attention eca --input_size '[1, 3, 64, 64]' --per_layer
"""
TABLES = """\
Parameters and operations of each row's network are counted in the row's unit and convention, and
stand beside the print. A row is reproduced to the last digit; or explained by what its authors'
tool did not see; or its size alone is reproduced, the operations not being counted here; or it
differs, with the reason; or its network is not built here. All rows take about a minute.

examples:
  convattn tables --paper ca
  convattn tables --model mobilenet_v2 --status differs
  convattn tables --json > tables.json
Exit code 0: all rows are as recorded, 1: one is not, 2: wrong arguments.
"""
DOCTOR = """\
examples:
  convattn doctor                                            this installation: versions, operators
  convattn doctor mobilenet_v2 --attention ca
  convattn doctor torchvision/resnet18 --insert eca@before_add
  convattn doctor runs/mobilenet_v2_ca/weights/best.pt --input_size '[2, 3, 32, 32]'
  convattn doctor runs/mobilenet_v2_ca --images 8            its gates on test images, not on noise
Exit code 0: nothing found (notes are allowed), 1: something, 2: wrong arguments.
"""
AUDIT = """\
Imports FILE.py, so its code runs: audit only what you would run. Arguments of the constructor for
channels and sizes are found by their names, others are given.

examples:
  convattn audit my_blocks.py:CoordAtt --as ca
  convattn audit my_blocks.py:Attention --as se --arguments '{width: 64, squeeze: 4}'
  convattn audit my_blocks.py:Cbam --as cbam --attention_args.variant timm
Exit code 0: nothing found (notes are allowed), 1: something, 2: wrong arguments.
"""
DATA_CHECK = """\
Reads everything: images, boxes, masks, label maps. The format is told from the folder's content.

examples:
  convattn data check path/to/coco
  convattn data check path/to/VOCdevkit --task detection
  convattn data check path/to/images --on_bad skip     report, and exit with 0
Exit code 0: nothing found or to be skipped, 1: something, 2: wrong arguments.
"""
DATA_SHARD = """\
Any data of any task, checked, as tar files that WebDataset reads and `--data FOLDER` takes. Image
files are kept as they are.

examples:
  convattn data shard path/to/imagenet shards/imagenet
  convattn data shard path/to/VOCdevkit shards/voc --task segmentation --max_mb 100
  convattn train --data shards/imagenet --augment imagenet
"""
DEMO = """\
Trains MobileNetV2 without attention and with SE, CBAM, ECA and CA on the embedded digit scenes,
several seeds each, and compares them. It is `convattn compare` with the recipe demo.yaml.

examples:
  convattn demo
  convattn demo --seeds 5 --name longer --epochs 8
"""
