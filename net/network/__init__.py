"""The network: layers, backbones, extra layers, heads, loss, and detections from its output."""
