"""From an encoded picture and its boxes to the network input."""
