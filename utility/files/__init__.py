"""Text files and protocol buffers."""
