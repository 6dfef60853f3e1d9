"""Time a training step of torchvision's SSD300-VGG16, to compare with `utility/benchmark.py --measure=train`.

    python tests/torchvision_step.py 4

takes batches of four and prints seconds an image: the median of three turns. It needs torch and torchvision, which
this project does not: run it with the Python of an environment that has them.
"""

import statistics
import sys
import time

import torch
from torchvision.models.detection import ssd300_vgg16

OBJECTS, CLASSES, STEPS, TURNS = 3, 21, 2, 3


def step(network, optimizer, images, targets):
    """Train on a batch: forward, loss, backward, update."""
    optimizer.zero_grad()
    sum(network(images, targets).values()).backward()
    optimizer.step()


def main(batch_size):
    """Time steps on noise with boxes in it."""
    network = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=CLASSES).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-5, momentum=0.9, weight_decay=5e-4)
    images = list(torch.rand(batch_size, 3, 300, 300))
    boxes = torch.tensor([[20.0 * n, 30.0, 20.0 * n + 100, 180.0] for n in range(OBJECTS)])
    targets = [{"boxes": boxes, "labels": torch.arange(1, OBJECTS + 1)} for _ in images]
    step(network, optimizer, images, targets)
    seconds = []
    for _ in range(TURNS):
        start = time.perf_counter()
        for _ in range(STEPS):
            step(network, optimizer, images, targets)
        seconds.append((time.perf_counter() - start) / STEPS / batch_size)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads: {statistics.median(seconds):.3f} s an image")


if __name__ == "__main__":
    main(int(sys.argv[1]))
