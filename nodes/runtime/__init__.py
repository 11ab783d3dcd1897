"""What makes a slice run: torch, or ONNX Runtime."""
