"""Data: the embedded digit scenes, class folders, and the CIFAR-10 pack.

Beside the tower: nothing here knows of models, tasks or training. `classification.py` opens any of
the sources as two labelled sets of uint8 images; what is wrong with them is said before training.
"""
