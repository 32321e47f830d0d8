"""Prepared images: each file read once, put on the model's canvas in 16 bits, and kept as a dataset of shards.

Training then never decodes DICOM. What cannot be read is listed in ``rejected.csv`` with its reason, and the run
continues. `mammo_hf.prepare` is the way in; read it in the order row, shard, executors, running; `folder` reads back.
"""
