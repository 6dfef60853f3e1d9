"""The network: layers, backbones, heads, loss, and detections from its output."""
