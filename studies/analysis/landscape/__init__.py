"""What recorded runs show: instabilities and their threshold, minima, valleys."""
