"""Damaged inputs by the thousand: each must give a result or an error of one line, within 5 s and 1 GB.

    python -m tests.fuzz 10000 /tmp/fuzz              of each kind
    python -m tests.fuzz 10000 /tmp/fuzz voc coco     of some kinds

The n-th case of a kind follows from n. What fails is kept in the folder, with a line that says why.
"""
