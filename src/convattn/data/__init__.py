"""Data: the embedded digit scenes, and files on disk, for every task.

Beside the tower: nothing here knows of models, tasks or training. `classification.py`,
`detection.py` and `segmentation.py` open a source as two sets, told from its content; `formats/`
has the readers, `scenes/` the embedded data. Images are uint8 without transforms; what is wrong is
said before training.
"""
