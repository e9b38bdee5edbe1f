"""What recorded runs show: instabilities, minima, valleys, the threshold of training."""
