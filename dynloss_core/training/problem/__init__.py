"""What is trained: the problem, its members, their data and their random numbers."""
