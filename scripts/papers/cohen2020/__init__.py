"""Cohen, Choi & Bajić 2020: clipped quantizers without retraining."""
