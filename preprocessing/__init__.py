"""Preprocessing of encoded images and their boxes: training augmentation, and the evaluation preprocessing."""
