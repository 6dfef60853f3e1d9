"""The SSD network, its loss, its detections and the Estimator model_fn around them."""
