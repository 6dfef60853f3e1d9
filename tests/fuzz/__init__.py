"""Damaged inputs by the thousand: each must give a result, or an error that is the user's, within 5 s and 1 GB.

Those are UserError and OSError; anything else is a defect, a plain ValueError too.

    python -m tests.fuzz 10000 /tmp/fuzz              of each kind
    python -m tests.fuzz 10000 /tmp/fuzz voc coco     of some kinds

The n-th case of a kind follows from n. What fails is kept in the folder, with a line that says why.
"""
